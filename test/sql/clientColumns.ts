// The columns that clients may write, table by table. What a release adds to a table is the engine's until it is listed here
// and granted in sql/tables.

interface Writable {
  readonly INSERT: readonly string[];
  readonly UPDATE: readonly string[];
}

const columns = (list: string): readonly string[] => (list === "" ? [] : list.split(" "));
/** Where the same columns may be inserted and updated. */
const both = (list: string): Writable => ({ INSERT: columns(list), UPDATE: columns(list) });

export const clientColumns: Readonly<Record<string, Writable>> = {
  revenue_leads: both(
    "id tenant_id company_name contact_name email phone website stage score value_estimate source time_zone metadata created_at updated_at last_contact next_action next_action_date merged_into phone_e164 owner_email state scored_at rescore_requested_at location industry status is_test is_demo assigned_agent_id lead_id",
  ),
  lead_events: {
    INSERT: columns("id tenant_id lead_id event channel occurred_at source_key metadata created_at"),
    UPDATE: columns(""),
  },
  lead_score_events: {
    INSERT: columns("id tenant_id lead_id reason points half_life occurred_at source_key created_at"),
    UPDATE: columns(""),
  },
  lead_forms: both("id tenant_id name source defaults active created_at"),
  contact_suppressions: both("id tenant_id channel address reason source created_at expires_at"),
  contact_consents: {
    INSERT: columns("id tenant_id lead_id channel address state source evidence occurred_at created_at"),
    UPDATE: columns(""),
  },
  contact_policies: both(
    "id tenant_id channel window_start window_end weekdays cap cap_window consent spread hourly_limit expires_after",
  ),
  ai_broadcasts: {
    INSERT: columns("id tenant_id name audience template subject body metadata status"),
    UPDATE: columns("name audience template subject body metadata status"),
  },
  ai_email_queue: {
    INSERT: columns(
      "id tenant_id recipient subject body scheduled_for status metadata created_at lead_id enrolment_id touch_id broadcast_id max_attempts job_priority idempotency_key",
    ),
    UPDATE: columns(
      "recipient subject body scheduled_for status metadata lead_id enrolment_id touch_id max_attempts job_priority idempotency_key",
    ),
  },
  ai_sms_queue: {
    INSERT: columns(
      "id tenant_id recipient body scheduled_for status metadata created_at lead_id enrolment_id touch_id max_attempts job_priority idempotency_key",
    ),
    UPDATE: columns(
      "recipient body scheduled_for status metadata lead_id enrolment_id touch_id max_attempts job_priority idempotency_key",
    ),
  },
  campaigns: {
    INSERT: columns("id tenant_id code name description status goal_event exit_on reentry created_at"),
    UPDATE: columns("name description status goal_event exit_on reentry"),
  },
  campaign_steps: both(
    "id tenant_id campaign_id version step_number step_key kind name template delay delay_from next_step config created_at",
  ),
  ai_campaign_templates: both("id tenant_id name channel subject body version created_at"),
  ai_nurture_campaigns: {
    INSERT: columns(
      "id tenant_id lead_id campaign_type status next_touch_date touch_count created_at name is_active exit_reason",
    ),
    UPDATE: columns("status name is_active exit_reason"),
  },
  ai_campaign_touches: {
    INSERT: columns(
      "id tenant_id campaign_id touch_type scheduled_for content_template status max_attempts job_priority idempotency_key created_at",
    ),
    UPDATE: columns("scheduled_for content_template status max_attempts job_priority idempotency_key"),
  },
  campaign_rules: both("id tenant_id campaign_id name tiers stages sources condition leaves active created_at"),
  campaign_split_winners: both("id tenant_id campaign_id version step_key variant decided_at figures"),
  lead_tasks: both(
    "id tenant_id lead_id title description status priority due_at assigned_to touch_id created_at done_at",
  ),
  plans: both("id tenant_id code name amount currency amount_minor interval lead_id active created_at updated_at"),
  payment_requests: {
    INSERT: columns(
      "id tenant_id lead_id product_service plan_id plan_code amount currency payment_status expires_at success_url deliver_by metadata status scheduled_for max_attempts job_priority idempotency_key created_at",
    ),
    UPDATE: columns(
      "lead_id product_service plan_id plan_code amount currency payment_status expires_at success_url deliver_by metadata status scheduled_for max_attempts job_priority idempotency_key",
    ),
  },
  payment_link_closures: {
    INSERT: columns(""),
    UPDATE: columns("status scheduled_for max_attempts job_priority idempotency_key"),
  },
  onboarding_templates: both(
    "id tenant_id template step_number step_name description duration subject body advance_on remind remind_before escalate_after created_at updated_at",
  ),
  ai_onboarding_workflows: {
    INSERT: columns(
      "id tenant_id lead_id status current_step total_steps template reason started_at completed_at created_at",
    ),
    UPDATE: columns("status reason"),
  },
  ai_onboarding_steps: {
    INSERT: columns(
      "id tenant_id workflow_id step_number step_name description status due_at started_at completed_at duration subject body advance_on remind remind_before escalate_after created_at",
    ),
    UPDATE: columns("description status due_at subject body advance_on remind remind_before escalate_after"),
  },
  onboarding_reminders: {
    INSERT: columns(""),
    UPDATE: columns("workflow_id step_id kind due_at scheduled_for status max_attempts job_priority idempotency_key"),
  },
  contact_topics: both("id tenant_id code name description campaign_codes created_at"),
  contact_topic_optouts: both("id tenant_id topic_id address_key created_at"),
  provider_credentials: { INSERT: columns(""), UPDATE: columns("active") },
  tenant_notifications: {
    INSERT: columns(
      "id tenant_id subject body lead_id scheduled_for created_at status max_attempts job_priority idempotency_key",
    ),
    UPDATE: columns("subject body lead_id scheduled_for status max_attempts job_priority idempotency_key"),
  },
};

-- Which payment request a Stripe object belongs to: the ids that an object names, and stripe_objects. Start at
-- record_stripe_objects.

create or replace function brainops_internal.record_stripe_objects(p_known public.stripe_objects, p_ids text[])
returns text[]
language sql
set search_path = ''
as $$
  with
    new_ones as (
      insert into public.stripe_objects (tenant_id, object_id, own_account, payment_request_id, key_generation)
      select (p_known).tenant_id, i.id, (p_known).own_account, (p_known).payment_request_id, (p_known).key_generation
      from unnest(p_ids) as i (id)
      order by i.id
      on conflict do nothing
      returning object_id
    )
  select coalesce(array_agg(object_id), '{}')
  from new_ones;
$$;

comment on function brainops_internal.record_stripe_objects(public.stripe_objects, text[]) is
  'Records that the ids belong to the request of p_known; returns those that were not known before.';

revoke execute on function brainops_internal.record_stripe_objects(public.stripe_objects, text[]) from public;
grant execute on function brainops_internal.record_stripe_objects(public.stripe_objects, text[]) to brainops_system;

-- Leaves customers out: one customer pays many requests.
create or replace function brainops_internal.stripe_ids(p_object jsonb)
returns text[]
language sql
immutable
set search_path = ''
as $$
  select coalesce(array_agg(distinct i.id order by i.id), '{}')
  from
    unnest(
      array[
        p_object ->> 'id',
        brainops_internal.stripe_id(p_object -> 'payment_link'),
        brainops_internal.stripe_id(p_object -> 'payment_intent'),
        brainops_internal.stripe_id(p_object -> 'charge'),
        brainops_internal.stripe_id(p_object -> 'invoice'),
        brainops_internal.stripe_id(p_object -> 'subscription'),
        brainops_internal.stripe_id(p_object #> '{parent,subscription_details,subscription}'),
        brainops_internal.stripe_id(p_object #> '{payment,payment_intent}'),
        brainops_internal.stripe_id(p_object #> '{payment,charge}')
      ]
    ) as i (id)
  where length(i.id) between 1 and 255;
$$;

comment on function brainops_internal.stripe_ids(jsonb) is
  'The ids by which a Stripe object is attributed to a request: its own, and those of the objects around the same payment.';

revoke execute on function brainops_internal.stripe_ids(jsonb) from public;
grant execute on function brainops_internal.stripe_ids(jsonb) to brainops_system;

create or replace function brainops_internal.stripe_id(p_value jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    nullif(
      case jsonb_typeof(p_value)
        when 'string' then p_value #>> '{}'
        when 'object' then p_value ->> 'id'
      end,
      ''
    );
$$;

comment on function brainops_internal.stripe_id(jsonb) is
  'The id in a field of a Stripe object, which holds the id itself or the expanded object; null if it is empty.';

revoke execute on function brainops_internal.stripe_id(jsonb) from public;
grant execute on function brainops_internal.stripe_id(jsonb) to brainops_system;

create or replace function brainops_internal.stripe_time(p_value jsonb)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
  select
    case
      when jsonb_typeof(p_value) = 'number' then to_timestamp((p_value #>> '{}')::float8)
    end;
$$;

comment on function brainops_internal.stripe_time(jsonb) is
  'A Stripe timestamp (Unix seconds); null if the value is not a number.';

revoke execute on function brainops_internal.stripe_time(jsonb) from public;
grant execute on function brainops_internal.stripe_time(jsonb) to brainops_system;

create or replace function brainops_internal.stripe_account(p_tenant_id uuid)
returns text
language sql
immutable
set search_path = ''
as $$
  select coalesce(p_tenant_id::text, 'platform');
$$;

comment on function brainops_internal.stripe_account(uuid) is
  'The key of a Stripe account: the tenant''s id for its own account; platform for the platform''s account (p_tenant_id null).';

revoke execute on function brainops_internal.stripe_account(uuid) from public;
grant execute on function brainops_internal.stripe_account(uuid) to brainops_system;

-- Rows of ai_email_queue: what may be inserted (check_email_row), and whether it may be sent now (gate_email, which
-- the claim calls because job_tables.gate names it). addresses.sql says which address a row means.

-- Runs before the tenant is filled in, because the tenant may come from the lead.
create or replace function brainops_internal.check_email_row()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_lead_id uuid;
begin
  new.recipient := btrim(new.recipient, E' \t\r\n');
  -- Clients write the JSON null for "no metadata".
  new.metadata := coalesce(nullif(new.metadata, 'null'), '{}');
  v_lead_id := brainops_internal.uuid_or_null(new.recipient);

  if coalesce(new.recipient, '') = '' then
    raise exception 'recipient: is empty'
      using errcode = 'OP004', column = 'recipient', hint = 'Give one e-mail address, or the id of a lead.';
  end if;
  if v_lead_id is null and not brainops_internal.is_email_address(new.recipient) then
    raise exception 'recipient: % is not an e-mail address', quote_literal(left(new.recipient, 120))
      using errcode = 'OP004', column = 'recipient',
        hint = 'Give one address without a name, such as ann@example.com (an international domain in punycode), or the id of a lead.';
  end if;
  if new.broadcast_id is null then
    perform brainops_internal.check_mail_text(new.subject, new.body);
  elsif new.subject is not null or new.body is not null then
    raise exception 'subject and body: must be null for a recipient of broadcast %', new.broadcast_id
      using errcode = 'OP005', hint = 'Leave both out: recipients get the content of the broadcast. For other content insert a mail without broadcast_id.';
  end if;
  if jsonb_typeof(new.metadata) <> 'object' then
    raise exception 'metadata: % is not a JSON object', quote_literal(left(new.metadata::text, 120))
      using errcode = 'OP006', column = 'metadata', hint = 'Give an object such as {"first_name": "Ann"}, or {} or null for no values.';
  end if;
  if new.metadata ?| array['reply_to', 'category'] then
    perform brainops_internal.check_mail_headers(new.metadata);
  end if;

  if tg_op = 'INSERT' then
    if new.metadata ->> 'priority' = 'high' and new.job_priority = 0 then
      new.job_priority := -10;
    end if;
    if v_lead_id is null and new.lead_id is null and new.metadata ? 'lead_id' then
      new.lead_id := brainops_internal.find_lead(brainops_internal.uuid_or_null(new.metadata ->> 'lead_id'), new.tenant_id);
    end if;
  elsif new.recipient = old.recipient then
    -- The lead may have been deleted since: the gate reports that when the mail is due.
    return new;
  end if;
  if v_lead_id is not null then
    new.lead_id := brainops_internal.find_lead(v_lead_id, new.tenant_id);
    if new.lead_id is null then
      raise exception 'recipient: % is not a lead of this tenant', new.recipient
        using errcode = 'OP004', column = 'recipient', hint = 'Give an e-mail address, or the id of a row in revenue_leads.';
    end if;
  end if;
  return new;
end;
$$;

comment on function brainops_internal.check_email_row is
  'Trigger before insert or update on ai_email_queue: refuses what can never be sent, naming the column, the value and the remedy (OP004, OP005, OP006), and fills lead_id and job_priority.';

alter function brainops_internal.check_email_row() owner to brainops_system;
revoke execute on function brainops_internal.check_email_row() from public;

create or replace function brainops_internal.check_mail_text(p_subject text, p_body text)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if coalesce(btrim(p_subject), '') = '' then
    raise exception 'subject: is empty'
      using errcode = 'OP005', column = 'subject', hint = 'Give a subject of 1 to 998 characters.';
  end if;
  if length(p_subject) > 998 then
    raise exception 'subject: has % characters, at most 998 are allowed', length(p_subject)
      using errcode = 'OP005', column = 'subject', hint = 'Shorten it.';
  end if;
  if p_subject ~ '[\x01-\x1f\x7f]' then
    raise exception 'subject: % contains a control character', quote_literal(left(p_subject, 120))
      using errcode = 'OP005', column = 'subject', hint = 'Remove line breaks, tabs and other control characters.';
  end if;
  if coalesce(p_body, '') = '' then
    raise exception 'body: is empty'
      using errcode = 'OP005', column = 'body', hint = 'Give the content of the mail as HTML or text.';
  end if;
  if octet_length(p_body) > 1048576 then
    raise exception 'body: has % bytes, at most 1048576 (1 MiB) are allowed', octet_length(p_body)
      using errcode = 'OP005', column = 'body', hint = 'Link to large content instead of sending it.';
  end if;
end;
$$;

comment on function brainops_internal.check_mail_text(text, text) is
  'Raises OP005 if a subject or body can never be sent.';

revoke execute on function brainops_internal.check_mail_text(text, text) from public;
grant execute
on function brainops_internal.check_mail_text(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- These two values become a header of the mail and a category of the provider's statistics as they are, without Liquid.
create or replace function brainops_internal.check_mail_headers(p_metadata jsonb)
returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_reply_to text := case jsonb_typeof(p_metadata -> 'reply_to') when 'string' then btrim(p_metadata ->> 'reply_to') end;
  v_category text := case jsonb_typeof(p_metadata -> 'category') when 'string' then p_metadata ->> 'category' end;
begin
  if v_reply_to <> '' and not brainops_internal.is_mailbox(v_reply_to) then
    raise exception 'metadata.reply_to: % is not an e-mail address', quote_literal(left(v_reply_to, 120))
      using errcode = 'OP006', column = 'metadata',
        hint = 'Give one address, such as ann@example.com or Ann <ann@example.com>, without control characters and of at most 512 bytes; or leave it out.';
  end if;
  if octet_length(v_category) > 255 or v_category ~ '[\x01-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]' then
    raise exception 'metadata.category: % is too long, or contains a control character', quote_literal(left(v_category, 120))
      using errcode = 'OP006', column = 'metadata', hint = 'Give a text of at most 255 bytes in one line, or leave it out.';
  end if;
end;
$$;

comment on function brainops_internal.check_mail_headers(jsonb) is
  'Raises OP006 if metadata.reply_to is not an address with or without a name, or metadata.category is not a short line. Other JSON types than text are left alone, because they have no effect.';

revoke execute on function brainops_internal.check_mail_headers(jsonb) from public;
grant execute on function brainops_internal.check_mail_headers(jsonb) to brainops_system;

create or replace function brainops_internal.gate_email(p_ids uuid[])
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_rows brainops.contact[] := brainops_internal.email_contacts(p_ids);
begin
  -- A recipient that is an address was checked at the insert; a lead may have any text. SendGrid's client would extract
  -- the address from "Ann <ann@example.com>", for which the contact rules would find neither suppression nor consent.
  return query
    select
      u.id, 'fail', null::timestamptz,
      format('recipient: %L, the address of lead %s, is not an e-mail address; correct it and set status to pending', left(u.address, 120), u.recipient)
    from unnest(v_rows) as u
    where u.address <> u.recipient and not brainops_internal.is_email_address(u.address);
  if found then
    select array_agg(u) into v_rows
      from unnest(v_rows) as u
      where u.address is null or u.address = u.recipient or brainops_internal.is_email_address(u.address);
  end if;
  return query select * from brainops_internal.contact_verdicts('email', v_rows);
end;
$$;

comment on function brainops_internal.gate_email(uuid[]) is
  'Which of these mails may not be sent now, and why: the lead that a recipient names has no usable address, and the verdicts of brainops_internal.contact_verdicts.';

revoke execute on function brainops_internal.gate_email(uuid[]) from public;
grant execute on function brainops_internal.gate_email(uuid[]) to brainops_worker;

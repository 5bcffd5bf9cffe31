-- Templates of campaigns. Inserting a name again creates its next version. A version that was sent stays as it is, so
-- that it remains visible what a person got.

create or replace function brainops_internal.before_campaign_template()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    new.version := coalesce(
      new.version,
      (
        select max(t.version) + 1
        from public.ai_campaign_templates as t
        where t.tenant_id = new.tenant_id and t.name = new.name and t.channel = new.channel
      ),
      1
    );
  elsif (new.subject, new.body, new.name, new.channel, new.version) is distinct from (old.subject, old.body, old.name, old.channel, old.version)
    and exists (
      select from public.ai_campaign_touches as t
      where t.tenant_id = old.tenant_id and t.content_template = old.name and t.template_version = old.version
    )
  then
    raise exception 'ai_campaign_templates: version % of % was sent to people and cannot be changed', old.version, quote_literal(old.name)
      using errcode = 'OP021', hint = 'Insert the template again: it becomes the next version, which touches use from then on.';
  end if;
  return new;
end;
$$;

comment on function brainops_internal.before_campaign_template is
  'Trigger of ai_campaign_templates before insert or update: numbers a new version. OP021: the version was sent, so it cannot be changed.';

alter function brainops_internal.before_campaign_template() owner to brainops_system;
revoke execute on function brainops_internal.before_campaign_template() from public;

create or replace function brainops_internal.keep_sent_template()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if exists (
    select from public.ai_campaign_touches as t
    where t.tenant_id = old.tenant_id and t.content_template = old.name and t.touch_type = old.channel
      and t.template_version = old.version
  ) then
    raise exception 'ai_campaign_templates: version % of % was sent to people and cannot be deleted', old.version, quote_literal(old.name)
      using errcode = 'OP021', hint = 'Keep it; touches use the newest version of a name.';
  end if;
  return old;
end;
$$;

comment on function brainops_internal.keep_sent_template is
  'Trigger of ai_campaign_templates before delete. OP021: a touch was sent with this version, so it cannot be deleted.';

alter function brainops_internal.keep_sent_template() owner to brainops_system;
revoke execute on function brainops_internal.keep_sent_template() from public;

-- Locks the template's row (key share), so that a delete at the same moment waits, and is then refused by
-- keep_sent_template.
create or replace function brainops_internal.hold_sent_template()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform from public.ai_campaign_templates as t
    where t.tenant_id = new.tenant_id and t.name = new.content_template and t.channel = new.touch_type
      and t.version = new.template_version
    for key share;
  if not found then
    raise exception 'content_template: version % of % was deleted while a touch was using it', new.template_version, quote_literal(new.content_template)
      using errcode = 'serialization_failure', hint = 'The touch is retried with the version that is the newest then.';
  end if;
  return new;
end;
$$;

comment on function brainops_internal.hold_sent_template is
  'Trigger of ai_campaign_touches before template_version is written: keeps that version from being deleted. serialization_failure if it was deleted already; the touch is then retried.';

alter function brainops_internal.hold_sent_template() owner to brainops_system;
revoke execute on function brainops_internal.hold_sent_template() from public;

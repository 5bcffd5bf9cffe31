-- Words that went to people stay, as long as a touch remembers them.
set local lock_timeout = '2s';

create function brainops.keep_sent_template()
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
      using errcode = 'OP021', hint = 'Leave it; touches take the newest version of a name.';
  end if;
  return old;
end;
$$;

comment on function brainops.keep_sent_template is
  'A version of a template that touches were sent with is there to be read: what a person got can be shown to them.';

alter function brainops.keep_sent_template() owner to brainops_system;
revoke execute on function brainops.keep_sent_template() from public;

create trigger b1_keep_sent_template
before delete on public.ai_campaign_templates
for each row
execute function brainops.keep_sent_template();

-- Whoever sends holds on to the words that it sends: a delete in the same moment waits, and is refused then.
create function brainops.hold_sent_template()
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
    raise exception 'content_template: version % of % was deleted while it was sent', new.template_version, quote_literal(new.content_template)
      using errcode = 'serialization_failure', hint = 'The touch is tried again, with the version that is the newest then.';
  end if;
  return new;
end;
$$;

comment on function brainops.hold_sent_template is
  'The version that a touch was sent with is there when the touch says so, whoever deletes it meanwhile.';

alter function brainops.hold_sent_template() owner to brainops_system;
revoke execute on function brainops.hold_sent_template() from public;

create trigger b9_hold_sent_template
before update of template_version on public.ai_campaign_touches
for each row
when (new.template_version is not null and new.template_version is distinct from old.template_version)
execute function brainops.hold_sent_template();

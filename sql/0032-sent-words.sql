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

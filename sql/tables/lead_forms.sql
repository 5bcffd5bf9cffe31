-- Forms that may post leads.
select brainops.protect_table('public.lead_forms');

-- Each form has an address of its own.
create or replace trigger c0_limit_rows
after insert on public.lead_forms
referencing new table as inserted
for each statement
execute function brainops_internal.limit_rows('100');

-- The campaign library: the campaigns and texts of which each tenant gets its own copy, as drafts
-- (brainops_internal.ship_campaigns). The last statement gives them to the tenants that exist already.
--
-- Compatibility: rolling; adds rows that no older program reads.

insert into brainops.library_templates (name, channel, subject, body)
values
  (
    'educational_content_1',
    'email',
    'Three questions to ask before you hire anyone',
    'Hi {{ first_name }},

Whoever you end up working with, these three questions save the most trouble:

1. Who will actually do the work, and who is liable if something goes wrong?
2. What is not included in the price?
3. What happens, and how fast, if you are not happy with the result?

Ask them on the phone. You learn as much from how quickly the answers come as from what they are.

If you would like to hear ours, just reply to this mail.

{{ tenant.name }}'
  ),
  (
    'educational_content_2',
    'email',
    'What drives the price (and what does not)',
    'Hi {{ first_name }},

Two offers for the same job can lie 40 % apart. Most of the difference usually comes from three places: the material, the hours that were planned for surprises, and the guarantee.

A low price with no hours for surprises is not cheap. It is a price that will change later, when it is hard to say no.

So compare offers line by line, and ask for the guarantee in writing. If you have an offer in front of you that you are unsure about, send it to us. We will tell you what we would ask about it, whoever it is from.

{{ tenant.name }}'
  ),
  (
    'educational_content_3',
    'email',
    'A short checklist before the work starts',
    'Hi {{ first_name }},

Most delays are decided in the week before the first day. This is the list we use ourselves:

- One person on your side who can decide things, with a phone number
- Access on the day: keys, gates, parking
- What must not be moved or touched
- How you want to hear about progress: call, text or mail
- A date by which it has to be done, and why

Five lines, and nobody stands around waiting. Use it with anyone you hire.

{{ tenant.name }}'
  ),
  (
    'educational_content_4',
    'email',
    'What other customers wish they had known',
    'Hi {{ first_name }},

Ask people afterwards what they would do differently, and the answers repeat:

"I would have started two months earlier." Good dates go first.
"I would have taken photos before." They settle every question afterwards.
"I would have asked about upkeep." Half an hour a year often doubles how long things last.

What would you like to know before you decide? Reply with one line, and you get an answer from a person.

{{ tenant.name }}'
  ),
  (
    'educational_content_5',
    'email',
    'Shall we look at yours?',
    'Hi {{ first_name }},

Over the last two weeks you had the general advice. What matters now is your case, and for that a look is better than a mail.

If you reply with a good day and time, we call you back, take fifteen minutes, and tell you plainly whether we are the right people for it.

If the timing is wrong, that is fine too. Tell us when to ask again and we will leave you alone until then.

{{ tenant.name }}'
  ),
  (
    'nurture_value',
    'email',
    'One thing you can use today',
    'Hi {{ first_name }},

Thank you for getting in touch with {{ tenant.name }}.

Before we talk about work, here is something that helps either way: write down what it costs you, in money and in hours, to leave things as they are for another year. Most people are surprised by the number, in one direction or the other, and it makes every later decision easier.

If you would like to go through it together, reply and we find fifteen minutes.

{{ tenant.name }}'
  ),
  (
    'nurture_proof',
    'email',
    'How it usually goes, from first call to done',
    'Hi {{ first_name }},

Not knowing what happens next is the main reason people put things off. So this is how it goes with us:

1. A call of fifteen minutes. You tell us what you need.
2. A visit or a closer look, and a written price. No charge, no obligation.
3. A date that we keep, and one person you can reach.
4. A check at the end, together with you. It is done when you say so.

Which of these would you like to know more about? Just reply.

{{ tenant.name }}'
  ),
  (
    'nurture_case',
    'email',
    'The sum that settles it',
    'Hi {{ first_name }},

The situation we meet most often may sound familiar: the problem is known, the estimates are in a drawer, and every month something else is more urgent.

What settles it is a simple sum: what repairs and lost hours have cost in two years, beside what it costs to solve it once. Sometimes the answer is to wait. Often it is not.

We would be glad to do that sum for {% if lead.company_name %}{{ lead.company_name }}{% else %}you{% endif %}, with your numbers. It takes ten minutes on the phone.

{{ tenant.name }}'
  ),
  (
    'nurture_demo',
    'email',
    'Would it help to see it?',
    'Hi {{ first_name }},

Some things are easier to judge when you see them. We can show you finished work like yours, in person or by video, and you can ask whoever did it anything you like.

Two times are usually easy: weekday mornings and late afternoons. Reply with what suits you and we send an invitation.

{{ tenant.name }}'
  ),
  (
    'nurture_decision',
    'email',
    'Shall I keep a place for you?',
    'Hi {{ first_name }},

We are planning the coming weeks now, and I would rather ask than assume.

If you want it done this season, reply "yes" and we hold a place for you until we have talked; it costs nothing and binds you to nothing. If not, reply "later" and I close the file until you write again.

Either answer helps us both.

{{ tenant.name }}'
  ),
  (
    'roofing_first_answer',
    'email',
    'Your roof: what happens next',
    'Hi {{ first_name }},

Thank you for asking {{ tenant.name }} about your roof.

To give you a price that holds, we need to see it. An inspection takes about 45 minutes, costs nothing, and you get photos of what we find, including of the places nobody looks at.

Reply with two times that suit you. If water is coming in right now, say so in the subject and we call you first.

{{ tenant.name }}'
  ),
  (
    'roofing_text',
    'sms',
    null,
    'Hi {{ first_name }}, {{ tenant.name }} here about your roof. Which day this week suits you for a free 45-minute inspection? Reply STOP to opt out.'
  ),
  (
    'roofing_inspection',
    'email',
    'What a roof inspection finds that you cannot see',
    'Hi {{ first_name }},

From the ground most roofs look fine. Four places tell us how yours really is:

- the flashing around chimney and vents, where most leaks begin
- the valleys, where water and leaves collect
- the decking from inside the attic, where old leaks leave their marks
- the ventilation, which decides how long the shingles last

You get photos of all four, and our word on what needs doing now, what can wait, and what is fine. If it is storm damage, we tell you what your insurer will ask for.

Reply with a time that suits you.

{{ tenant.name }}'
  ),
  (
    'welcome_1',
    'email',
    'Welcome to {{ tenant.name }}',
    'Hi {{ first_name }},

Good to have you with us. You do not need to do anything today.

Three things to know: this address reaches a person, so just reply when you have a question. Over the next days we send you three short mails about how we work. And if you would rather have a call, reply with your number and a time.

{{ tenant.name }}'
  ),
  (
    'welcome_2',
    'email',
    'Who you are dealing with',
    'Hi {{ first_name }},

A short word on how we work, so that you know what to expect.

We answer within one working day. We give prices in writing. We tell you when something is not worth doing. And when we make a mistake, we put it right before we talk about anything else.

If we ever fall short of that, reply to this mail.

{{ tenant.name }}'
  ),
  (
    'welcome_3',
    'email',
    'The questions people ask us most',
    'Hi {{ first_name }},

How long does it take? Most jobs are scheduled within two to four weeks, urgent ones sooner.
What does it cost to ask? Nothing. You get a written price first.
Can it be changed later? Yes, until work starts, and we tell you what it does to the price.
Who will come? The person you spoke to, or you hear about it beforehand.

Yours is not among them? Reply and ask.

{{ tenant.name }}'
  ),
  (
    'welcome_4',
    'email',
    'What would help you most right now?',
    'Hi {{ first_name }},

You have been with us for a week. To be useful rather than loud, one question:

What is the one thing you would like to have settled in the next three months?

One line is enough. We answer with what we would do first, and what it would cost.

{{ tenant.name }}'
  ),
  (
    'reengagement_1',
    'email',
    'Still on your list?',
    'Hi {{ first_name }},

It has been a while since we spoke. Is the matter you asked us about still on your list?

If it is, reply "yes" and we pick it up where we left it; we still have your details. If it is settled, we are glad, and a short "done" lets us close the file.

{{ tenant.name }}'
  ),
  (
    'reengagement_2',
    'email',
    'What has changed since we spoke',
    'Hi {{ first_name }},

Prices and delivery times have moved since you first asked, some of them down. An estimate that did not fit then may fit now.

Shall we run the numbers again? It takes us a day, and you nothing but a reply.

{{ tenant.name }}'
  ),
  (
    'reengagement_3',
    'email',
    'An easy way to find out',
    'Hi {{ first_name }},

If you are undecided because it is not clear what you would get, here is a small first step: fifteen minutes on the phone, in which we tell you what we would do, in which order, and what can safely wait.

Reply with a time. If it turns out that you do not need us, we say so.

{{ tenant.name }}'
  ),
  (
    'reengagement_4',
    'email',
    'Shall we close your file?',
    'Hi {{ first_name }},

We have not heard from you, so we will stop writing about this. Nothing is lost: reply at any time, even in a year, and we start from what you told us.

All the best from {{ tenant.name }}'
  ),
  (
    'stale_estimate_reminder',
    'email',
    'Your estimate from {{ tenant.name }}',
    'Hi {{ first_name }},

You have had our estimate for a few days, and I wanted to ask whether anything in it is unclear.

The questions we hear most are about the schedule, about what is included, and about paying in parts. All three can be talked about.

Reply with what is holding you back, or simply with "go", and we set a date.

{{ tenant.name }}'
  ),
  (
    'stale_estimate_last',
    'email',
    'Before your estimate runs out',
    'Hi {{ first_name }},

We can hold the price of your estimate for a little longer, but not for ever: material is bought at the day''s price.

If you want it, reply this week and we keep it as it stands. If you have decided for somebody else, tell us in one word. We would rather know than keep asking.

{{ tenant.name }}'
  ),
  (
    'outreach_intro',
    'email',
    'A quick word about what you asked for',
    'Hi {{ first_name }},

I saw what you need{% if lead.company_name %} at {{ lead.company_name }}{% endif %}, and it is the kind of work we do every week.

I will try to reach you by phone today. If another time is better, reply with it and I call then. It takes ten minutes, and at the end you know a price range and the earliest date.

{{ tenant.name }}'
  ),
  (
    'outreach_follow_up',
    'email',
    'Did I miss you?',
    'Hi {{ first_name }},

We have not managed to talk yet, so here is the short version: we can start within two to four weeks, you get the price in writing before you decide, and one person looks after you from start to end.

What would you need to know to say yes or no? Reply with that, and I answer today.

{{ tenant.name }}'
  ),
  (
    'outreach_text',
    'sms',
    null,
    'Hi {{ first_name }}, this is {{ tenant.name }}. Is a 10-minute call tomorrow morning all right? Just text a time. Reply STOP to opt out.'
  );

insert into brainops.library_campaigns (code, name, description, goal_event, exit_on, steps, rule)
values
  (
    'educational_drip',
    'Educational drip',
    'Five mails of advice for leads that are not ready yet; the first after three days.',
    null,
    '{email_replied,sms_replied,email_unsubscribed,email_bounced,email_complained,opted_out:email,won,lost}',
    '[
      {"step_number": 1, "step_key": "content_1", "kind": "send_email", "template": "educational_content_1", "delay": "3 days"},
      {"step_number": 2, "step_key": "content_2", "kind": "send_email", "template": "educational_content_2", "delay": "3 days"},
      {"step_number": 3, "step_key": "content_3", "kind": "send_email", "template": "educational_content_3", "delay": "4 days"},
      {"step_number": 4, "step_key": "content_4", "kind": "send_email", "template": "educational_content_4", "delay": "3 days"},
      {"step_number": 5, "step_key": "content_5", "kind": "send_email", "template": "educational_content_5", "delay": "4 days"}
    ]',
    '{"name": "low leads are nurtured", "tiers": ["cool", "cold"], "stages": ["new", "contacted", "nurturing"], "leaves": []}'
  ),
  (
    'nurture_five',
    'Nurture, five mails',
    'Value, proof, a case, a demonstration and a decision: days 0, 3, 7, 14 and 21.',
    'meeting_booked',
    '{email_replied,sms_replied,email_unsubscribed,email_bounced,email_complained,opted_out:email,won,lost}',
    '[
      {"step_number": 1, "step_key": "value", "kind": "send_email", "template": "nurture_value", "delay_from": "enrolment"},
      {"step_number": 2, "step_key": "proof", "kind": "send_email", "template": "nurture_proof", "delay": "3 days", "delay_from": "enrolment"},
      {"step_number": 3, "step_key": "case", "kind": "send_email", "template": "nurture_case", "delay": "7 days", "delay_from": "enrolment"},
      {"step_number": 4, "step_key": "demo", "kind": "send_email", "template": "nurture_demo", "delay": "14 days", "delay_from": "enrolment"},
      {"step_number": 5, "step_key": "decision", "kind": "send_email", "template": "nurture_decision", "delay": "21 days", "delay_from": "enrolment"}
    ]',
    null
  ),
  (
    'new_roofing_lead',
    'New roofing lead',
    'Mail at once, a text after a day, another mail after three, and word to sales after a week.',
    'meeting_booked',
    '{email_replied,sms_replied,email_unsubscribed,email_bounced,email_complained,opted_out:email,won,lost}',
    '[
      {"step_number": 1, "step_key": "first_answer", "kind": "send_email", "template": "roofing_first_answer", "delay_from": "enrolment"},
      {"step_number": 2, "step_key": "text", "kind": "send_sms", "template": "roofing_text", "delay": "24 hours", "delay_from": "enrolment"},
      {"step_number": 3, "step_key": "inspection", "kind": "send_email", "template": "roofing_inspection", "delay": "72 hours", "delay_from": "enrolment"},
      {"step_number": 4, "step_key": "tell_sales", "kind": "notify", "delay": "168 hours", "delay_from": "enrolment", "config": {"subject": "No answer from a roofing lead after a week", "body": "Two mails and a text went unanswered. A call is the next thing to try."}}
    ]',
    null
  ),
  (
    'welcome',
    'Welcome',
    'Four mails for somebody new: days 0, 1, 3 and 7.',
    null,
    '{email_replied,sms_replied,email_unsubscribed,email_bounced,email_complained,opted_out:email,won,lost}',
    '[
      {"step_number": 1, "step_key": "welcome", "kind": "send_email", "template": "welcome_1", "delay_from": "enrolment"},
      {"step_number": 2, "step_key": "who_we_are", "kind": "send_email", "template": "welcome_2", "delay": "1 day", "delay_from": "enrolment"},
      {"step_number": 3, "step_key": "questions", "kind": "send_email", "template": "welcome_3", "delay": "3 days", "delay_from": "enrolment"},
      {"step_number": 4, "step_key": "what_next", "kind": "send_email", "template": "welcome_4", "delay": "7 days", "delay_from": "enrolment"}
    ]',
    null
  ),
  (
    'reengagement',
    'Re-engagement',
    'For leads that went quiet: days 0, 7, 14 and 21, and then rest.',
    'email_clicked',
    '{email_replied,sms_replied,email_unsubscribed,email_bounced,email_complained,opted_out:email,won,lost}',
    '[
      {"step_number": 1, "step_key": "still_interested", "kind": "send_email", "template": "reengagement_1", "delay_from": "enrolment"},
      {"step_number": 2, "step_key": "news", "kind": "send_email", "template": "reengagement_2", "delay": "7 days", "delay_from": "enrolment"},
      {"step_number": 3, "step_key": "easy_step", "kind": "send_email", "template": "reengagement_3", "delay": "14 days", "delay_from": "enrolment"},
      {"step_number": 4, "step_key": "goodbye", "kind": "send_email", "template": "reengagement_4", "delay": "21 days", "delay_from": "enrolment"}
    ]',
    null
  ),
  (
    'stale_estimate',
    'Stale estimate',
    'An estimate that nobody answers: asked about once it is three days old, again three days later, then a call.',
    'paid',
    '{email_replied,sms_replied,email_unsubscribed,email_bounced,email_complained,opted_out:email,won,lost,stage_changed}',
    '[
      {"step_number": 1, "step_key": "how_old", "kind": "branch", "config": {"when": [{"if": {"event": "stage_changed", "within": "3 days"}, "to": 2}], "else": 3}},
      {"step_number": 2, "step_key": "let_it_rest", "kind": "wait", "delay": "3 days"},
      {"step_number": 3, "step_key": "reminder", "kind": "send_email", "template": "stale_estimate_reminder", "delay": "24 hours", "config": {"high_priority_when": {"field": "value_estimate", "op": ">", "value": 5000}}},
      {"step_number": 4, "step_key": "last_word", "kind": "send_email", "template": "stale_estimate_last", "delay": "3 days"},
      {"step_number": 5, "step_key": "call", "kind": "task", "delay": "2 days", "config": {"title": "Call about the estimate", "description": "Two mails about the estimate went unanswered.", "priority": "normal", "due_in": "1 day"}}
    ]',
    '{"name": "estimates are followed up", "stages": ["proposal_sent"], "leaves": []}'
  ),
  (
    'outreach',
    'Outreach',
    'For hot leads: a call the same day, a mail at once, and what follows by what they do.',
    'meeting_booked',
    '{email_replied,sms_replied,email_unsubscribed,email_bounced,email_complained,opted_out:email,won,lost}',
    '[
      {"step_number": 1, "step_key": "call_today", "kind": "task", "config": {"title": "Call today: hot lead", "priority": "high", "due_in": "4 hours"}},
      {"step_number": 2, "step_key": "intro", "kind": "send_email", "template": "outreach_intro"},
      {"step_number": 3, "step_key": "interest", "kind": "wait_for", "delay": "2 days", "config": {"event": "email_clicked", "then": 4, "else": 5}},
      {"step_number": 4, "step_key": "call_again", "kind": "task", "config": {"title": "Call again: has just read our mail", "priority": "high", "due_in": "2 hours"}, "next_step": 6},
      {"step_number": 5, "step_key": "follow_up", "kind": "send_email", "template": "outreach_follow_up"},
      {"step_number": 6, "step_key": "text", "kind": "send_sms", "template": "outreach_text", "delay": "2 days"},
      {"step_number": 7, "step_key": "tell_sales", "kind": "notify", "delay": "3 days", "config": {"subject": "No answer from a hot lead", "body": "Mail, text and call went unanswered. Decide whether to try again or to let it rest."}}
    ]',
    '{"name": "hot leads get outreach", "tiers": ["hot"], "leaves": ["educational_drip", "nurture_five", "reengagement"]}'
  );

select brainops_internal.ship_campaigns(id)
from public.tenants;

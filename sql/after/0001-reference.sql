-- Reference data and defaults: retention periods, limits of sessions, points of scores, legal contact hours and caps, currencies. Applied
-- once, because admins may edit all of it.
-- Compatibility: rolling; adds rows that no older program reads.

insert into brainops.settings (name, value, description)
values
  ('drop_archive_after', '13 months', 'Months of brainops.job_archive older than this are dropped.'),
  ('drop_events_after', '3 months', 'Months of brainops.job_events older than this are dropped.'),
  ('drop_webhooks_after', '30 days', 'Processed rows of webhook_events older than this are deleted.');

insert into brainops.settings
  (name, value, description)
values
  (
    'drop_reports_after',
    '13 months',
    'Reports on messages (email_deliveries, email_bounces, sms_deliveries) older than this are deleted, except unsubscribes and resubscribes.'
  );

insert into brainops.settings
  (name, value, description)
values
  (
    'end_blocking_sessions_after',
    '5 seconds',
    'A session of a tenant''s login that has kept others waiting for a lock for longer than this, in all during one transaction, is ended.'
  ),
  (
    'end_transactions_after',
    '60 seconds',
    'A session of a tenant''s login with a transaction older than this is ended.'
  );

insert into brainops.score_reasons (reason, kind, points, half_life, description)
values
  ('captured', 'fact', 30, null, 'every lead'),
  ('email_given', 'fact', 10, null, 'has an e-mail address'),
  ('business_domain', 'fact', 20, null, 'the e-mail address is not at a free mail service'),
  ('phone_given', 'fact', 15, null, 'has a phone number'),
  ('company_given', 'fact', 10, null, 'has a company'),
  ('custom_fields', 'fact', 3, null, 'each other field in metadata, up to five'),
  ('budget_high', 'fact', 20, null, 'metadata.budget is high, or above 10,000'),
  ('budget_medium', 'fact', 10, null, 'metadata.budget is medium, or above 5,000'),
  ('decision_maker', 'fact', 15, null, 'metadata.decision_maker is yes'),
  ('timeline_now', 'fact', 20, null, 'metadata.timeline is immediate or this_week'),
  ('timeline_month', 'fact', 10, null, 'metadata.timeline is this_month'),
  ('property_owner', 'fact', 10, null, 'metadata.property_owner is yes'),
  ('budget_approved', 'fact', 15, null, 'metadata.budget_approved is yes'),
  ('email_opened', 'event', 2, '14 days', 'opened a mail; once per mail, opens by machines excluded'),
  ('email_clicked', 'event', 6, '14 days', 'clicked a link; once per mail'),
  ('email_replied', 'event', 15, '30 days', 'replied by mail'),
  ('sms_replied', 'event', 15, '30 days', 'replied by text message'),
  ('form_submitted', 'event', 5, '30 days', 'submitted a form'),
  ('meeting_booked', 'event', 20, '60 days', 'booked a meeting'),
  ('email_bounced', 'event', -15, null, 'a mail bounced: the address does not exist'),
  ('email_unsubscribed', 'event', -30, null, 'unsubscribed from mail'),
  ('opted_out', 'event', -20, null, 'opted out of text messages'),
  ('email_complained', 'event', -60, null, 'reported a mail as spam');

insert into brainops.contact_windows (country, state, channel, weekdays, window_from, window_to, source)
values
  ('US', null, 'sms', '{1,2,3,4,5,6,7}', '08:00', '21:00', '47 CFR 64.1200(c)(1)'),
  ('US', 'FL', 'sms', '{1,2,3,4,5,6,7}', '08:00', '20:00', 'Fla. Stat. 501.616(6)'),
  ('US', 'OK', 'sms', '{1,2,3,4,5,6,7}', '08:00', '20:00', 'Oklahoma Telephone Solicitation Act of 2022'),
  ('US', 'MD', 'sms', '{1,2,3,4,5,6,7}', '08:00', '20:00', 'Maryland Stop the Spam Calls Act of 2023'),
  ('US', 'MS', 'sms', '{1,2,3,4,5,6,7}', '08:00', '20:00', 'Mississippi Telephone Solicitation Act'),
  ('US', 'NJ', 'sms', '{1,2,3,4,5,6,7}', '08:00', '20:00', 'New Jersey telemarketing law'),
  ('US', 'CT', 'sms', '{1,2,3,4,5,6,7}', '09:00', '20:00', 'Conn. Gen. Stat. 42-288a'),
  ('US', 'TX', 'sms', '{1,2,3,4,5,6}', '09:00', '21:00', 'Tex. Bus. & Com. Code 301.051'),
  ('US', 'TX', 'sms', '{7}', '12:00', '21:00', 'Tex. Bus. & Com. Code 301.051'),
  ('US', 'RI', 'sms', '{1,2,3,4,5}', '09:00', '18:00', 'Rhode Island telephone sales law'),
  ('US', 'RI', 'sms', '{6,7}', '10:00', '17:00', 'Rhode Island telephone sales law');

insert into brainops.contact_caps (country, state, channel, cap, cap_window, source)
values ('US', 'FL', 'sms', 3, '24 hours', 'Fla. Stat. 501.616(6)');

insert into brainops.currencies (code, exponent, stripe_exponent, stripe_multiple)
select code, exponent, stripe_exponent, stripe_multiple
from
  (
    values
      ('aed afn all amd ang aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop', 2, 2, 1),
      ('crc cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr jmd', 2, 2, 1),
      ('kes kgs khr kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio', 2, 2, 1),
      ('nok npr nzd pab pen pgk php pkr pln qar ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb', 2, 2, 1),
      ('tjs top try ttd twd tzs uah usd uyu uzs wst xcd xcg yer zar zmw', 2, 2, 1),
      ('bif clp djf gnf jpy kmf krw pyg rwf vnd vuv xaf xof xpf', 0, 0, 1),
      ('isk ugx', 0, 2, 100),
      ('mga', 2, 0, 1),
      ('bhd jod kwd omr tnd', 3, 3, 10)
  ) as c (codes, exponent, stripe_exponent, stripe_multiple)
  cross join lateral string_to_table(c.codes, ' ') as code;

-- A touch's row prevents the touch from happening again, so it stays in the table.
update brainops.job_tables set archive_after = '10 years' where table_name = 'ai_campaign_touches';

-- Payments, refunds and disputes are recorded on the request's row, which stays as long as money can move.
update brainops.job_tables set archive_after = '100 years' where table_name = 'payment_requests';

-- A campaign's own mail templates, and who wants no more mails of it. Run once, in schema tidings.

-- In the stead of the templates that the service has; kind: the event's type.
create table mail_templates (
  campaign   int not null,                         -- campaigns.no
  kind       text collate "C" not null,
  subject    text not null,
  text       text not null,
  html       text,                                 -- null: the mail is text alone
  updated_at timestamptz not null default now(),
  primary key (campaign, kind)
);

-- Whoever is here gets no mail of the campaign but what they ask for.
create table mail_unsubscribes (
  campaign int not null,                           -- campaigns.no
  place    int not null,                           -- users.place; 0: the account
  at       timestamptz not null default now(),
  primary key (campaign, place)
);

-- Not validated: what is there has one of the words that there were.
alter table mails
  drop constraint mails_status_check,
  add constraint mails_status_check
    check (status in ('sending', 'sent', 'failed', 'expired', 'discarded', 'unsubscribed')) not valid;

-- Functions whose parameters or rows change; the files fn_* make them anew.
drop function if exists mail_read(uuid[], uuid[], bigint[], uuid[]);
drop function if exists mail_record(uuid[], text[], uuid[], uuid[], bigint[], uuid[], text[], text);

-- Mail templates of campaigns, for HTTP and for email-workers, and unsubscribing. Rows and what is missing: as in fn_reads.sql.
-- None of this is an action: it has no event and no version, and its tables are not the lanes'.

create or replace function mail_template_item(t mail_templates) returns text language sql stable as $$
  select row_to_json(x)::text
  from (select t.kind as template, t.subject, t.text, t.html, rfc3339(t.updated_at) as updated_at) x
$$;

-- All that a campaign has: one per type of event at most.
create or replace function read_mail_templates(p_account int, p_campaign uuid) returns table (item text)
language sql stable as $$
  select '{"items":[' || coalesce((select string_agg(mail_template_item(t), ',' order by t.kind)
                                   from mail_templates t where t.campaign = c.no), '') || ']}'
  from campaigns c where c.id = p_campaign and c.account = p_account and c.deleted_at is null
$$;

create or replace function read_mail_template(p_account int, p_campaign uuid, p_kind text) returns table (item text)
language sql stable as $$
  select (select mail_template_item(t) from mail_templates t where t.campaign = c.no and t.kind = p_kind)
  from campaigns c where c.id = p_campaign and c.account = p_account and c.deleted_at is null
$$;

create or replace function put_mail_template(p_account int, p_campaign uuid, p_kind text, p_subject text, p_text text, p_html text)
returns table (item text) language sql volatile as $$
  insert into mail_templates as t (campaign, kind, subject, text, html)
  select c.no, p_kind, p_subject, p_text, p_html
  from campaigns c where c.id = p_campaign and c.account = p_account and c.deleted_at is null
  on conflict (campaign, kind) do update
  set subject = excluded.subject, text = excluded.text, html = excluded.html, updated_at = now()
  returning mail_template_item(t)
$$;

create or replace function delete_mail_template(p_account int, p_campaign uuid, p_kind text) returns table (item text)
language plpgsql volatile as $$
declare
  c constant campaigns := campaign_to_read(p_account, p_campaign);
begin
  if c.no is not null then
    delete from mail_templates t where t.campaign = c.no and t.kind = p_kind;
    return query select case when found then '{}' end;
  end if;
end $$;

-- What a preview is made of: the campaign, and its own template, if it has one (subject null: it has none).
create or replace function read_mail_preview(p_account int, p_campaign uuid, p_kind text)
returns table (name text, landing_url text, subject text, text text, html text) language sql stable as $$
  select c.name, c.landing_url, t.subject, t.text, t.html
  from campaigns c left join mail_templates t on t.campaign = c.no and t.kind = p_kind
  where c.id = p_campaign and c.account = p_account and c.deleted_at is null
$$;

-- The own templates of these campaigns and types, for email-workers; those that have none are left out.
create or replace function mail_templates_of(p_campaigns int[], p_kinds text[])
returns table (campaign int, kind text, subject text, text text, html text)
language sql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  select t.campaign, t.kind, t.subject, t.text, t.html
  from (select distinct g.campaign, g.kind from unnest(p_campaigns, p_kinds) as g (campaign, kind)) g
  join mail_templates t on t.campaign = g.campaign and t.kind = g.kind
$$;

-- No more mails of the campaign to the user; p_user all zero: to the account. Again is as good as once. found: both are there.
create or replace function mail_unsubscribe(p_campaign uuid, p_user uuid) returns table (found boolean)
language plpgsql volatile as $$
declare
  c campaigns;
  v_place int := 0;
begin
  select * into c from campaigns x where x.id = p_campaign and x.deleted_at is null;
  if p_user <> '00000000-0000-0000-0000-000000000000' then
    v_place := place_of_user(c.no, p_user);
  end if;
  if c.no is null or v_place is null then
    return query select false;
    return;
  end if;
  insert into mail_unsubscribes (campaign, place) values (c.no, v_place) on conflict do nothing;
  return query select true;
end $$;

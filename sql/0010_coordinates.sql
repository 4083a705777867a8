-- A record's coordinates alone do not name it: a topic made anew, or another cluster, begins at offset 0 again. Run once, in
-- schema tidings.

-- At once, in the order in which runs come to them: or a run and this might wait for each other.
lock table handled, webhook_deliveries, dead_letters in access exclusive mode;

-- Besides them: its event; where none could be read, its bytes, of which a second copy would say nothing more. A record that
-- comes again adds nothing (held_add).
create unique index dead_letters_record on dead_letters
  (grp, topic, partition, "offset",
   coalesce(event_id, encode(substr(sha256(coalesce(key, '') || coalesce(value, '')), 1, 16), 'hex')::uuid));
alter table dead_letters drop constraint dead_letters_grp_topic_partition_offset_key;

-- Functions whose parameters or rows change; the files fn_* make them anew.
drop function if exists held_add(text, text, text, int, bigint, bytea, bytea, uuid, text, text, int, bytea, timestamptz, bigint);
drop function if exists held_claim(text, int, bigint, boolean, boolean);
drop function if exists handled_claim(text, uuid[], timestamptz[]);
drop function if exists handled_trim(timestamptz, int);
drop function if exists mail_read(uuid[], text[], uuid[], uuid[], bigint[], uuid[]);
drop function if exists mail_record(uuid[], text[], uuid[], uuid[], bigint[], uuid[], text[], text, text[]);

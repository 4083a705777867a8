-- API keys, beside what HTTP reads of them.

-- Revokes a key, and says so in an event of its account, under the shard's lock, which the transaction's first statement took.
-- A key that was revoked before stays as it is, without another event.
create or replace function key_revoke(p_key uuid, p_shard int, p_event uuid) returns void language plpgsql volatile as $$
declare
  v_account int;
begin
  update api_keys k set revoked_at = now() where k.id = p_key and k.revoked_at is null returning k.account into v_account;
  if v_account is not null then
    perform append_events(array[1], array[0], array[p_shard], array[-v_account], array[16::smallint], array[p_event],
                          array['{"key_id":"' || p_key || '"}']);
  end if;
end $$;

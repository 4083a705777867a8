"""What a sign-up takes on disk."""


def sizes(service):
    """{table: (bytes of the table, bytes of its indexes)}"""
    rows = service.query("select c.relname, pg_table_size(c.oid), pg_indexes_size(c.oid) from pg_class c"
                         " where c.relkind = 'r' and c.relnamespace = 'tidings'::regnamespace").splitlines()
    return {name: (int(table), int(indexes)) for name, table, indexes in map(str.split, rows)}


def growth(before, after, sign_ups):
    """{table: [bytes a sign-up, bytes of its indexes a sign-up]}, of the tables that grew. Pages are added some at a time, so
    thousands of sign-ups are needed to tell."""
    grown = {name: [(after[name][i] - before[name][i]) / max(sign_ups, 1) for i in (0, 1)] for name in after}
    return {name: both for name, both in grown.items() if sum(both) >= 1}


def wal_bytes(service):
    """Written since the cluster was made."""
    return int(service.query("select pg_current_wal_lsn() - '0/0'"))

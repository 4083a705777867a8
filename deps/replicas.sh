# shellcheck shell=bash
# More than one of each, to see a part fail over: a Kafka cluster, and a standby of a Postgres cluster. Shell functions as those
# of deps/lib.sh, which is to be sourced before.
# shellcheck disable=SC2154 # postgres_bin, start_timeout_s: deps/lib.sh
#
#   kafka_cluster_start DIR [N]    N brokers (3) in DIR/1 … DIR/N, each also a controller; starts those that are down.
#                                  prints KAFKA_BROKERS=…,…,…
#   kafka_cluster_stop DIR [I]     all, or the one
#   kafka_cluster_pid DIR [I]      of the first one that runs, or of that one; fails when it does not run
#   kafka_cluster_topic DIR NAME PARTITIONS
#   kafka_cluster_destroy DIR
#
#   postgres_standby_start DIR PRIMARY_DIR [async]
#       a copy of the cluster in PRIMARY_DIR that follows it; unless async, each commit there waits for this standby, from now on
#       and also while it is down. After it was promoted, this only starts it. Prints DATABASE_URL=… and ADMIN_DATABASE_URL=… of
#       both hosts, which lead to the one that takes writes, and STANDBY_ADMIN_DATABASE_URL=… of this one.
#   postgres_standby_promote DIR   makes it a primary. Whoever does that sees to it that the old one is gone
#   postgres_standby_stop DIR [MODE], postgres_standby_pid DIR, postgres_standby_destroy DIR     as with any cluster

# --- Kafka -----------------------------------------------------------------------------------------------------------

# What differs from a broker that is alone. Each event is in sync on two brokers before it is acknowledged; one may be away.
kafka_cluster_settings() { # NODE COUNT VOTERS
    local replicas=$(($2 < 3 ? $2 : 3)) in_sync=$(($2 < 3 ? 1 : 2))
    cat <<SETTINGS
node.id=$1
controller.quorum.voters=$3
default.replication.factor=$replicas
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$replicas
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$in_sync
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$in_sync
# Several brokers share few cores here: one that only waits for its turn must not count as dead.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
SETTINGS
}

kafka_cluster_count() { cat "$1/count" 2>/dev/null || echo 0; }

kafka_cluster_print() {
    local dir=$1 i brokers=
    for ((i = 1; i <= $(kafka_cluster_count "$dir"); i++)); do
        brokers+=${brokers:+,}127.0.0.1:$(cat "$dir/$i/port")
    done
    echo "KAFKA_BROKERS=$brokers"
}

# Ports for each broker and controller, those of before where they are free.
kafka_cluster_ports() {
    local dir=$1 i file port taken=' '
    for ((i = 1; i <= $(kafka_cluster_count "$dir"); i++)); do
        for file in "$dir/$i/port" "$dir/$i/controller-port"; do
            port=$(port_pick "$(cat "$file" 2>/dev/null || true)")
            while [[ $taken == *" $port "* ]]; do
                port=$(port_pick)
            done
            taken+="$port "
            echo "$port" >"$file"
        done
    done
}

kafka_cluster_configure() {
    local dir=$1 count i voters='' formatting=()
    count=$(kafka_cluster_count "$dir")
    kafka_cluster_ports "$dir"
    for ((i = 1; i <= count; i++)); do
        voters+=${voters:+,}$i@127.0.0.1:$(cat "$dir/$i/controller-port")
    done
    for ((i = 1; i <= count; i++)); do
        {
            kafka_settings "$dir/$i" "$(cat "$dir/$i/port")" "$(cat "$dir/$i/controller-port")"
            kafka_cluster_settings "$i" "$count" "$voters"
        } >"$dir/$i/server.properties"
        if [ ! -e "$dir/$i/data/meta.properties" ]; then
            kafka_format "$dir/$i" "$(cat "$dir/id")" &
            formatting+=("$!")
        fi
    done
    for i in "${formatting[@]}"; do
        wait "$i" || exit 1 # it has said why
    done
}

# Starts those that are down, all at once: one alone would wait for a majority. Fails when one does not come.
kafka_cluster_launch() {
    local dir=$1 i down=()
    for ((i = 1; i <= $(kafka_cluster_count "$dir"); i++)); do
        if ! kafka_pid "$dir/$i" >/dev/null; then
            # They compile less: a short life and few cores.
            kafka_spawn "$dir/$i" -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1
            down+=("$i")
        fi
    done
    for i in "${down[@]}"; do
        kafka_await "$dir/$i" || return 1
    done
}

kafka_cluster_start() {
    local dir count=${2:-3} tries i start_timeout_s=120 # they share few cores
    dir=$(realpath -m "$1")
    [[ $count =~ ^[1-9]$ ]] || die "from 1 to 9 brokers"
    command -v java >/dev/null || die "Java is not installed; run deps/install run"
    kafka_jars
    if [ ! -e "$dir/count" ]; then
        say "making a Kafka cluster in $dir"
        mkdir -p "$dir"
        for ((i = 1; i <= count; i++)); do
            mkdir -p "$dir/$i"
        done
        kafka_new_id >"$dir/id"
        echo "$count" >"$dir/count"
    fi
    for ((tries = 1; ; tries++)); do
        # With one of them running, the ports are known to it and stay.
        kafka_cluster_pid "$dir" >/dev/null || kafka_cluster_configure "$dir"
        if kafka_cluster_launch "$dir"; then
            break
        fi
        if [ "$tries" -ge 3 ] || ! grep -q 'Address already in use' "$dir"/*/log; then
            for i in "$dir"/*/log; do
                show_log "$i"
            done
            die "the Kafka cluster does not start in $dir"
        fi
        kafka_cluster_stop "$dir" # someone was faster; the ports that are taken are left to them
    done
    kafka_cluster_print "$dir"
}

kafka_cluster_pid() {
    local dir=$1 i
    if [ -n "${2:-}" ]; then
        kafka_pid "$dir/$2"
        return
    fi
    for ((i = 1; i <= $(kafka_cluster_count "$dir"); i++)); do
        if kafka_pid "$dir/$i"; then
            return
        fi
    done
    return 1
}

kafka_cluster_stop() {
    local dir i pid stopping=()
    dir=$(realpath -m "$1")
    if [ -n "${2:-}" ]; then
        kafka_stop "$dir/$2"
        return
    fi
    # All at once: the last ones would wait for a majority that is gone, and be killed for it.
    for ((i = 1; i <= $(kafka_cluster_count "$dir"); i++)); do
        if pid=$(kafka_pid "$dir/$i"); then
            kill -CONT "$pid" 2>/dev/null || true
            kill -TERM "$pid" 2>/dev/null || true
            stopping+=("$i")
        fi
    done
    for i in "${stopping[@]}"; do
        kafka_stop "$dir/$i"
    done
}

kafka_cluster_destroy() {
    local dir i
    dir=$(realpath -m "$1")
    for ((i = 1; i <= $(kafka_cluster_count "$dir"); i++)); do
        kafka_destroy "$dir/$i"
    done
    rm -rf "$dir"
}

kafka_cluster_topic() {
    local dir brokers
    dir=$(realpath -m "$1")
    brokers=$(kafka_cluster_print "$dir")
    kafka_create_topic "$dir" "${brokers#*=}" "$2" "$3"
}

# --- Postgres --------------------------------------------------------------------------------------------------------

# How the primary knows this standby: one name for its connection and its replication slot.
postgres_standby_name() { echo "standby_$(printf '%s' "$1" | sha256sum | cut -c1-12)"; }

postgres_standby_pid() { postgres_pid "$1"; }
postgres_standby_stop() { postgres_stop "$@"; }

# Where the primary is. Read at each start; not looked at any more after a promotion.
postgres_standby_follow() { # HOME PRIMARY_HOME NAME
    cat >"$1/standby.conf" <<SETTINGS
primary_conninfo = 'host=127.0.0.1 port=$(cat "$2/port") user=postgres passfile=''$1/passfile'' application_name=$3'
primary_slot_name = '$3'
SETTINGS
}

# Copies the primary's cluster, which must run.
postgres_standby_make() { # DIR PRIMARY_DIR
    local dir=$1 primary=$2 home primary_home name file
    postgres_pid "$primary" >/dev/null || die "the primary in $primary does not run"
    say "making a standby in $dir"
    rm -f "$dir/location"
    postgres_make_home "$dir"
    home=$(postgres_home "$dir")
    primary_home=$(postgres_home "$primary")
    name=$(postgres_standby_name "$dir")
    for file in admin-password password; do
        write_private "$home/$file" <"$primary_home/$file"
    done
    echo "127.0.0.1:*:*:postgres:$(cat "$home/admin-password")" | write_private "$home/passfile"
    [ "$(id -u)" -ne 0 ] || chown postgres: "$home/admin-password" "$home/passfile"
    # The slot keeps what this standby has not got yet, however long it is down.
    postgres_psql "$primary" postgres >/dev/null <<SQL
select pg_create_physical_replication_slot('$name') where not exists (select from pg_replication_slots where slot_name = '$name');
SQL
    rm -rf "$home/data" "$home/data.new"
    if ! as_postgres env PGPASSFILE="$home/passfile" "$postgres_bin/pg_basebackup" --no-password --checkpoint=fast \
        --wal-method=stream --slot="$name" -h 127.0.0.1 -p "$(cat "$primary_home/port")" -U postgres -D "$home/data.new" \
        </dev/null >"$home/basebackup.log" 2>&1; then
        show_log "$home/basebackup.log"
        die "cannot copy the primary's cluster"
    fi
    # What the primary waits for is not what this one shall wait for once it is promoted.
    as_postgres sed -i '/^synchronous_standby_names/d' "$home/data.new/postgresql.auto.conf"
    as_postgres touch "$home/data.new/standby.signal"
    touch "$home/ready"
    echo "$primary" >"$home/primary"
    mv "$home/data.new" "$home/data"
}

# Tells the primary to wait for this standby, or for none, and waits until it is connected in this way.
postgres_standby_attach() { # PRIMARY_DIR NAME sync|async
    local names='' deadline=$((SECONDS + start_timeout_s))
    [ "$3" = async ] || names=$2
    postgres_psql "$1" postgres >/dev/null <<SQL
set synchronous_commit = local;
alter system set synchronous_standby_names = '$names';
select pg_reload_conf();
SQL
    until [ "$(echo "select sync_state from pg_stat_replication where application_name = '$2' and state = 'streaming'" |
        postgres_psql "$1" postgres -At)" = "$3" ]; do
        [ "$SECONDS" -lt "$deadline" ] || die "the standby does not come to follow the primary in $1"
        sleep 0.1
    done
}

postgres_standby_print() { # DIR PRIMARY_DIR
    local home primary_home hosts
    home=$(postgres_home "$1")
    primary_home=$(postgres_home "$2")
    hosts="127.0.0.1:$(cat "$primary_home/port"),127.0.0.1:$(cat "$home/port")"
    echo "DATABASE_URL=postgresql://tidings:$(cat "$home/password")@$hosts/tidings?target_session_attrs=read-write"
    echo "ADMIN_DATABASE_URL=postgresql://postgres:$(cat "$home/admin-password")@$hosts/postgres?target_session_attrs=read-write"
    postgres_print "$1" | sed -n 's/^ADMIN_/STANDBY_ADMIN_/p'
}

postgres_standby_start() {
    local dir primary mode=${3:-sync} home name
    dir=$(realpath -m "$1")
    primary=$(realpath -m "${2:-}")
    [ -n "${2:-}" ] || die "whose standby? Name the primary's directory"
    [[ $mode =~ ^(sync|async)$ ]] || die "the mode is sync or async, not $mode"
    home=$(postgres_home "$dir")
    [ -d "$home/data" ] || postgres_standby_make "$dir" "$primary"
    home=$(postgres_home "$dir")
    name=$(postgres_standby_name "$dir")
    postgres_standby_follow "$home" "$(postgres_home "$primary")" "$name"
    postgres_start "$dir" >/dev/null
    if [ -e "$home/data/standby.signal" ] && postgres_pid "$primary" >/dev/null; then
        postgres_standby_attach "$primary" "$name" "$mode"
    fi
    postgres_standby_print "$dir" "$primary"
}

postgres_standby_promote() {
    local dir home
    dir=$(realpath -m "$1")
    home=$(postgres_home "$dir")
    as_postgres "$postgres_bin/pg_ctl" promote -s -w -t "$start_timeout_s" -D "$home/data" >/dev/null ||
        die "cannot promote the standby in $dir; see $home/log"
}

postgres_standby_destroy() {
    local dir home name primary
    dir=$(realpath -m "$1")
    [ -d "$dir" ] || return 0
    home=$(postgres_home "$dir")
    name=$(postgres_standby_name "$dir")
    primary=$(cat "$home/primary" 2>/dev/null || true)
    postgres_destroy "$dir"
    # A primary that runs need not wait for it any more, nor keep anything for it.
    if [ -n "$primary" ] && postgres_pid "$primary" >/dev/null; then
        postgres_psql "$primary" postgres >/dev/null <<SQL
set synchronous_commit = local;
select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '$name' and not active;
alter system reset synchronous_standby_names;
select pg_reload_conf();
SQL
    fi
}

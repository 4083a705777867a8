# shellcheck shell=bash
# Shell functions that deps/quickstart, deps/stack and tests/run share: a private Postgres cluster and a private Kafka
# broker, each in a directory of its own. To be sourced by a script that runs under `set -euo pipefail`.
#
# A directory holds everything of its server: data, log, remembered ports, passwords (mode 0600), process id. So a second
# start on the same directory takes seconds and gives the same addresses, and only processes that were started from the
# directory are ever signalled: a process id counts only while that process's command line names the directory.
# deps/replicas.sh has more of each: a standby of the cluster, several brokers.
#
#   postgres_start DIR    prints DATABASE_URL=… and ADMIN_DATABASE_URL=…    (also when it runs already)
#   postgres_stop DIR [MODE]      MODE as for pg_ctl: fast (default), smart, immediate
#   postgres_pid DIR      prints the postmaster's pid, or fails when it does not run
#   kafka_start DIR       prints KAFKA_BROKERS=…
#   kafka_stop DIR
#   kafka_pid DIR
#   kafka_topic DIR NAME PARTITIONS     creates the topic if it is not there; the broker must run
#   postgres_destroy DIR, kafka_destroy DIR     stop it and remove the directory
#
# KAFKA_ADVERTISED=HOST:PORT in the environment of kafka_start: clients are told that address, where something of the caller's
# (a proxy) passes on to the port that KAFKA_BROKERS names. Said at each start. KAFKA_DIRECT_BROKERS=… is printed too: clients
# that begin there go on there, and so does the broker itself.
#
# A directory DIR/tls that is there before a start adds TLS. Postgres then offers it with the key and the certificate in
# DIR/tls/server.pem; Kafka listens in more ways, with the settings in DIR/tls/broker.properties, and kafka_start prints
# KAFKA_SSL_BROKERS=…, KAFKA_SASL_SSL_BROKERS=… and KAFKA_SASL_PLAINTEXT_BROKERS=… too.

shopt -s inherit_errexit # a failure inside $(…) must end the script as well

project_dir=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
postgres_bin=/usr/lib/postgresql/15/bin
# Another version of Kafka than deps/kafka/pom.xml names, such as clusters elsewhere still have: TIDINGS_KAFKA_VERSION=3.9.1
kafka_version=${TIDINGS_KAFKA_VERSION:-}
kafka_lib=$project_dir/var/kafka-lib${kafka_version:+-$kafka_version}
start_timeout_s=60

say() { printf '==> %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# --- Small things ----------------------------------------------------------------------------------------------------

# Writes standard input to a file that only its owner can read, in one step.
write_private() {
    local file=$1
    (umask 077 && cat >"$file.new") && mv "$file.new" "$file"
}

random_hex() { openssl rand -hex "$1"; }

# Whether anyone here listens on a TCP port (state 0A). Read from /proc: connecting to find out would bother who listens.
port_is_taken() {
    local hex
    hex=$(printf '%04X' "$1")
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$hex" '
        { n = split($2, at, ":"); if (at[n] == port && $4 == "0A") found = 1 } END { exit !found }'
}

# Prints a free TCP port: the preferred one if it is free, else a random one. From below the range that the kernel gives
# to outgoing connections, so that none of those takes it between two starts.
port_pick() {
    local preferred=${1:-} port tries
    if [ -n "$preferred" ] && ! port_is_taken "$preferred"; then
        echo "$preferred"
        return
    fi
    for ((tries = 0; tries < 200; tries++)); do
        port=$((20000 + SRANDOM % 12000))
        if ! port_is_taken "$port"; then
            echo "$port"
            return
        fi
    done
    die "found no free TCP port"
}

# Prints the pid in FILE if that process lives and its command line has every WORD in it; fails otherwise.
pid_of() {
    local file=$1 pid line word
    shift
    { read -r pid _ <"$file"; } 2>/dev/null || return 1
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    line=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) || return 1
    for word in "$@"; do
        [[ $line == *"$word"* ]] || return 1
    done
    echo "$pid"
}

# Waits until a process is gone, at most SECONDS.
pid_wait_gone() {
    local pid=$1 deadline=$((SECONDS + $2))
    while kill -0 "$pid" 2>/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.05
    done
}

show_log() {
    printf -- '---- the end of %s:\n' "$1" >&2
    tail -n 30 "$1" >&2 || true
    printf -- '----\n' >&2
}

# --- Postgres --------------------------------------------------------------------------------------------------------

# Postgres refuses to run as root; then it runs as the user that Debian's package made for it.
as_postgres() {
    if [ "$(id -u)" -eq 0 ]; then
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

# Prints where the cluster of DIR really is. That is DIR, unless the user it runs as cannot get there (a checkout below a
# home that is closed to others): then a directory below /var/tmp, made once and remembered in DIR/location.
postgres_home() {
    local dir=$1
    if [ -e "$dir/location" ]; then
        cat "$dir/location"
    else
        echo "$dir"
    fi
}

# Makes DIR ready to hold a cluster.
postgres_make_home() {
    local dir=$1 home
    mkdir -p "$dir"
    [ "$(id -u)" -eq 0 ] || return 0
    chown postgres: "$dir"
    chmod 0700 "$dir"
    if as_postgres test -w "$dir"; then
        return
    fi
    chown root: "$dir"
    # The name is known to all and /var/tmp is open to all, so only a directory that mkdir makes now can be trusted.
    home=/var/tmp/tidings-postgres-$(printf '%s' "$dir" | sha256sum | cut -c1-16)
    rm -rf "$home"
    mkdir -m 0700 "$home" || die "cannot make $home"
    chown postgres: "$home"
    echo "$home" >"$dir/location"
    say "user postgres cannot get to $dir; the cluster is in $home"
}

# Settings; written anew at each start. fsync stays on: what is measured and tested here is meant to be true.
postgres_settings() {
    local port=$1
    cat <<SETTINGS
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_connections = 100
shared_buffers = 256MB
max_wal_size = 8GB
checkpoint_timeout = 30min
log_line_prefix = '%m [%p] %q%a@%d '
log_lock_waits = on
include_if_exists = 'standby.conf'
SETTINGS
}

# A key must be closed to all but the user that the server runs as: a copy of it is.
postgres_tls_settings() {
    local dir=$1 home=$2
    [ -d "$dir/tls" ] || return 0
    write_private "$home/server.pem" <"$dir/tls/server.pem"
    [ "$(id -u)" -ne 0 ] || chown postgres: "$home/server.pem"
    printf "%s\n" "ssl = on" "ssl_cert_file = '$home/server.pem'" "ssl_key_file = '$home/server.pem'"
}

postgres_init() {
    local dir=$1 home=$2 admin_password app_password
    admin_password=$(random_hex 16)
    app_password=$(random_hex 16)
    rm -rf "$home/data"
    printf '%s\n' "$admin_password" | write_private "$home/admin-password"
    printf '%s\n' "$app_password" | write_private "$home/password"
    [ "$(id -u)" -ne 0 ] || chown postgres: "$home/admin-password"
    if ! as_postgres "$postgres_bin/initdb" --pgdata="$home/data.new" --username=postgres \
        --pwfile="$home/admin-password" --auth-host=scram-sha-256 --auth-local=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 --no-instructions >"$home/initdb.log" 2>&1; then
        show_log "$home/initdb.log"
        die "initdb failed"
    fi
    echo "include '../settings.conf'" >>"$home/data.new/postgresql.conf"
    # Renamed when it is whole, so that a start that was cut short leaves nothing that looks like a cluster.
    mv "$home/data.new" "$home/data"
}

postgres_psql() { # DIR DATABASE PSQL-OPTION…, SQL on standard input
    local home
    home=$(postgres_home "$1")
    PGPASSWORD=$(cat "$home/admin-password") "$postgres_bin/psql" -X -q -v ON_ERROR_STOP=1 \
        -h 127.0.0.1 -p "$(cat "$home/port")" -U postgres -d "$2" "${@:3}"
}

# The role and the database that Tidings works with. A plain role: no right beyond its own database is needed.
postgres_make_database() {
    local dir=$1 home
    home=$(postgres_home "$dir")
    postgres_psql "$dir" postgres <<SQL
create role tidings login password '$(cat "$home/password")';
create database tidings owner tidings;
SQL
    touch "$home/ready"
}

postgres_pid() {
    local home
    home=$(postgres_home "$1")
    pid_of "$home/data/postmaster.pid" postgres "$home/data"
}

# A cluster that was killed leaves its pid file, and Postgres deals with that, unless another process has got that pid
# since: then it would not start. (The file is not removed in other cases: it guards the data while old backends live.)
postgres_drop_stale_pid() {
    local file=$1 pid
    { read -r pid <"$file"; } 2>/dev/null || return 0
    if [ -d "/proc/$pid" ] && ! pid_of "$file" postgres "${file%/*}" >/dev/null; then
        rm -f "$file"
    fi
}

postgres_print() {
    local home port
    home=$(postgres_home "$1")
    port=$(cat "$home/port")
    echo "DATABASE_URL=postgresql://tidings:$(cat "$home/password")@127.0.0.1:$port/tidings"
    echo "ADMIN_DATABASE_URL=postgresql://postgres:$(cat "$home/admin-password")@127.0.0.1:$port/postgres"
}

postgres_start() {
    local dir home port tries why
    dir=$(realpath -m "$1")
    [ -x "$postgres_bin/initdb" ] || die "PostgreSQL 15 is not installed; run deps/install run"
    home=$(postgres_home "$dir")
    if postgres_pid "$dir" >/dev/null; then
        postgres_print "$dir"
        return
    fi
    if [ ! -d "$home/data" ]; then
        say "making a Postgres cluster in $dir"
        rm -f "$dir/location"
        postgres_make_home "$dir"
        home=$(postgres_home "$dir")
        rm -rf "$home/data.new"
        postgres_init "$dir" "$home"
    fi
    postgres_drop_stale_pid "$home/data/postmaster.pid"
    for ((tries = 1; ; tries++)); do
        port=$(port_pick "$(cat "$home/port" 2>/dev/null || true)")
        echo "$port" >"$home/port"
        {
            postgres_settings "$port"
            postgres_tls_settings "$dir" "$home"
        } >"$home/settings.conf"
        # The server inherits what is open here; descriptor 9 is the lock of deps/quickstart.
        if as_postgres "$postgres_bin/pg_ctl" start -s -w -t "$start_timeout_s" -D "$home/data" -l "$home/log" \
            </dev/null >/dev/null 2>&1 9>&-; then
            break
        fi
        why=$(tail -n 5 "$home/log" | grep -o -e 'could not create any TCP/IP sockets' -e 'shared memory block' || true)
        case $why in
            could*) rm -f "$home/port" ;; # someone was faster; take another one
            shared*) sleep 0.5 ;;         # its postmaster was killed, and some of its processes have not noticed yet
            *) tries=20 ;;
        esac
        if [ "$tries" -ge 20 ]; then
            show_log "$home/log"
            die "Postgres does not start in $dir"
        fi
    done
    [ -e "$home/ready" ] || postgres_make_database "$dir"
    postgres_print "$dir"
}

postgres_stop() {
    local dir mode=${2:-fast} home pid
    dir=$(realpath -m "$1")
    home=$(postgres_home "$dir")
    pid=$(postgres_pid "$dir") || return 0
    as_postgres "$postgres_bin/pg_ctl" stop -s -w -t "$start_timeout_s" -m "$mode" -D "$home/data" >/dev/null ||
        die "Postgres (pid $pid) does not stop; see $home/log"
}

postgres_destroy() {
    local dir home
    dir=$(realpath -m "$1")
    [ -d "$dir" ] || return 0
    home=$(postgres_home "$dir")
    postgres_stop "$dir" immediate
    rm -rf "$home" "$dir"
}

# --- Kafka -----------------------------------------------------------------------------------------------------------

# Fetches the broker's jars into var/kafka-lib, once for each state of pom.xml. One at a time: a broker may run on what is
# there. (Older versions bring a second way to log, which would be chosen by chance.)
kafka_jars() {
    mkdir -p "$project_dir/var"
    (
        flock 8
        kafka_fetch_jars 8>&-
    ) 8>"$kafka_lib.lock"
}

kafka_fetch_jars() {
    local pom=$project_dir/deps/kafka/pom.xml sum new=$kafka_lib.new.$$
    sum=$(sha256sum <"$pom")
    if [ "$(cat "$kafka_lib/complete" 2>/dev/null)" = "$sum" ]; then
        return
    fi
    command -v mvn >/dev/null || die "maven is not installed; run deps/install run"
    say "fetching Apache Kafka${kafka_version:+ $kafka_version} with Maven"
    rm -rf "$new"
    mkdir -p "$new"
    if ! mvn -q -B -Dstyle.color=never -f "$pom" ${kafka_version:+"-Dkafka.version=$kafka_version"} \
        dependency:copy-dependencies -DexcludeArtifactIds=slf4j-reload4j \
        -DoutputDirectory="$new" </dev/null >"$new/mvn.log" 2>&1 9>&-; then
        show_log "$new/mvn.log"
        rm -rf "$new"
        die "Maven could not fetch Kafka's jars"
    fi
    echo "$sum" >"$new/complete"
    rm -rf "$kafka_lib"
    mv "$new" "$kafka_lib"
}

# One of Kafka's tools. It lives for a second or two: the compiler that is best in the long run would only cost time.
kafka_tool() { # CLASS ARGUMENT…
    java -Xmx128m -XX:-UsePerfData -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
        -Dlog4j2.configurationFile="$project_dir/deps/kafka/log4j2.properties" -cp "$kafka_lib/*" "$@" </dev/null 9>&-
}

# One process is broker and controller. Small where Kafka's defaults are meant for many brokers and much memory.
kafka_settings() {
    local dir=$1 port=$2 controller_port=$3
    cat <<SETTINGS
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/data
num.network.threads=2
num.io.threads=4
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# Room for few records is enough for the cleaner; the default takes 128 MB.
log.cleaner.dedupe.buffer.size=8388608
# Files of this size are mapped for every partition; the default is 10 MB each.
log.index.size.max.bytes=1048576
log.segment.delete.delay.ms=1000
# How long a killed broker counts as alive; it cannot come back before that.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
SETTINGS
}

# The listeners that DIR/tls adds, named as the protocols that clients choose. What is said twice, the last one holds.
kafka_tls_settings() {
    local dir=$1 name port listeners=PLAINTEXT://127.0.0.1:$2 map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
    [ -d "$dir/tls" ] || return 0
    for name in SSL SASL_SSL SASL_PLAINTEXT; do
        port=$(port_pick "$(cat "$dir/port-$name" 2>/dev/null || true)")
        echo "$port" >"$dir/port-$name"
        listeners+=,$name://localhost:$port
        map+=,$name:$name
    done
    echo "listeners=$listeners,CONTROLLER://127.0.0.1:$3"
    echo "advertised.listeners=$listeners"
    echo "listener.security.protocol.map=$map"
    cat "$dir/tls/broker.properties"
}

# The listeners when clients are told another address than the one that is listened on.
kafka_advertised_settings() { # DIR PORT CONTROLLER_PORT
    local dir=$1 direct
    [ -n "${KAFKA_ADVERTISED:-}" ] || return 0
    [ ! -d "$dir/tls" ] || die "KAFKA_ADVERTISED does not go with $dir/tls"
    direct=$(port_pick "$(cat "$dir/port-DIRECT" 2>/dev/null || true)")
    echo "$direct" >"$dir/port-DIRECT"
    echo "listeners=PLAINTEXT://127.0.0.1:$2,DIRECT://127.0.0.1:$direct,CONTROLLER://127.0.0.1:$3"
    echo "advertised.listeners=PLAINTEXT://$KAFKA_ADVERTISED,DIRECT://127.0.0.1:$direct"
    echo "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT"
    echo "inter.broker.listener.name=DIRECT"
}

kafka_print() {
    local dir=$1 file
    echo "KAFKA_BROKERS=127.0.0.1:$(cat "$dir/port")"
    for file in "$dir"/port-*; do
        [ ! -e "$file" ] || echo "KAFKA_${file##*/port-}_BROKERS=localhost:$(cat "$file")"
    done
}

kafka_pid() { pid_of "$1/pid" kafka.Kafka "$1/server.properties"; }

kafka_start() {
    local dir port controller_port tries
    dir=$(realpath -m "$1")
    if kafka_pid "$dir" >/dev/null; then
        kafka_print "$dir"
        return
    fi
    command -v java >/dev/null || die "Java is not installed; run deps/install run"
    kafka_jars
    mkdir -p "$dir"
    for ((tries = 1; ; tries++)); do
        port=$(port_pick "$(cat "$dir/port" 2>/dev/null || true)")
        controller_port=$(port_pick "$(cat "$dir/controller-port" 2>/dev/null || true)")
        [ "$port" != "$controller_port" ] || continue
        [ -n "${KAFKA_ADVERTISED:-}" ] || rm -f "$dir/port-DIRECT"
        echo "$port" >"$dir/port"
        echo "$controller_port" >"$dir/controller-port"
        {
            kafka_settings "$dir" "$port" "$controller_port"
            kafka_tls_settings "$dir" "$port" "$controller_port"
            kafka_advertised_settings "$dir" "$port" "$controller_port"
        } >"$dir/server.properties"
        if [ ! -e "$dir/data/meta.properties" ]; then
            say "making a Kafka broker in $dir"
            kafka_format "$dir" "$(kafka_new_id)"
        fi
        kafka_spawn "$dir" -Xmx512m
        if kafka_await "$dir"; then
            break
        fi
        if [ "$tries" -ge 3 ] || ! grep -q 'Address already in use' "$dir/log"; then
            show_log "$dir/log"
            die "Kafka does not start in $dir"
        fi
        rm -f "$dir"/port* "$dir/controller-port" # someone was faster; take others
    done
    kafka_print "$dir"
}

# 16 random bytes in base64url; a leading '-' would be taken for an option.
kafka_new_id() {
    local id=-
    while [[ $id == -* ]]; do
        id=$(openssl rand -base64 16 | tr '+/' '-_' | tr -d '=')
    done
    echo "$id"
}

kafka_format() { # DIR CLUSTER_ID
    local dir=$1 id=$2
    rm -rf "$dir/data"
    if ! kafka_tool kafka.tools.StorageTool format -t "$id" -c "$dir/server.properties" >"$dir/format.log" 2>&1; then
        show_log "$dir/format.log"
        die "cannot format Kafka's directory"
    fi
}

# Starts the process; kafka_await waits until it serves.
kafka_spawn() { # DIR JAVA_OPTION…
    local dir=$1
    shift
    [ ! -e "$dir/log" ] || mv "$dir/log" "$dir/log.old"
    # What it unpacks for itself would stay in /tmp when it is killed.
    rm -rf "$dir/tmp"
    mkdir "$dir/tmp"
    # In a session of its own: a Ctrl-C for the script must not reach it. Its descriptors are its own as well.
    # (setsid does not fork here, since a background job of a script leads no group: $! is java itself.)
    setsid bash -c 'cd / && exec java "$@"' java "$@" -XX:-UsePerfData -Djava.io.tmpdir="$dir/tmp" \
        -Dlog4j2.configurationFile="$project_dir/deps/kafka/log4j2.properties" -cp "$kafka_lib/*" \
        kafka.Kafka "$dir/server.properties" </dev/null >"$dir/log" 2>&1 9>&- &
    echo "$!" >"$dir/pid"
    disown "$!"
}

# Waits until the process that kafka_spawn has started serves; fails when it ends before that.
kafka_await() {
    local dir=$1 pid deadline=$((SECONDS + start_timeout_s))
    pid=$(cat "$dir/pid")
    until grep -q 'Kafka Server started' "$dir/log"; do
        kill -0 "$pid" 2>/dev/null || return 1
        if [ "$SECONDS" -ge "$deadline" ]; then
            kill -KILL "$pid"
            return 1
        fi
        sleep 0.1
    done
}

kafka_stop() {
    local dir pid
    dir=$(realpath -m "$1")
    pid=$(kafka_pid "$dir") || return 0
    kill -CONT "$pid" 2>/dev/null || true # a stopped process would never see the next one
    kill -TERM "$pid" 2>/dev/null || true
    if ! pid_wait_gone "$pid" 20; then
        kill -KILL "$pid" 2>/dev/null || true
        pid_wait_gone "$pid" 5 || die "Kafka (pid $pid) does not stop"
    fi
    rm -f "$dir/pid"
}

kafka_destroy() {
    local dir pid
    dir=$(realpath -m "$1")
    # What is removed need not be closed in order.
    if pid=$(kafka_pid "$dir"); then
        kill -KILL "$pid"
        pid_wait_gone "$pid" 5 || die "Kafka (pid $pid) does not stop"
    fi
    rm -rf "$dir"
}

kafka_topic() {
    local dir name=$2 partitions=$3
    dir=$(realpath -m "$1")
    [ ! -d "$dir/data/$name-0" ] || return 0 # asking Kafka's own tool takes seconds
    kafka_create_topic "$dir" "127.0.0.1:$(cat "$dir/port-DIRECT" 2>/dev/null || cat "$dir/port")" "$name" "$partitions"
}

kafka_create_topic() { # DIR BROKERS NAME PARTITIONS; replicated as is the brokers' default
    kafka_tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$2" \
        --create --if-not-exists --topic "$3" --partitions "$4" \
        >"$1/topic.log" 2>&1 || { show_log "$1/topic.log"; die "cannot create topic $3"; }
}

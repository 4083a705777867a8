/* `tidings keys`: makes, lists and revokes API keys. A key is shown once; the database holds its hash alone. */
#include <libpq-fe.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "app/commands.h"
#include "core/hash.h"
#include "core/pg.h"
#include "core/uuid.h"
#include "domain/email_address.h"
#include "store/schema.h"

enum { KEY_RANDOM = 32, KEY_SIZE = 64, PREFIX = 12 };

static const char usage[] =
    "Usage: tidings keys create --new-account NAME --email ADDRESS [--kind KIND] [--name TEXT]\n"
    "       tidings keys create --account ACCOUNT_ID [--kind KIND] [--name TEXT]\n"
    "       tidings keys list [--account ACCOUNT_ID]\n"
    "       tidings keys revoke KEY_ID\n"
    "\n"
    "KIND is secret (all of the account; the default) or publishable (may sign users up, verify them and read a\n"
    "user's own status: safe in a web page). `create` prints the key once; it cannot be shown again.\n"
    "ADDRESS is where the account is told of milestones.\n";

struct options {
    const char *account, *new_account, *email, *kind, *name, *key_id;
};

static int usage_error(const char *what)
{
    fprintf(stderr, "tidings keys: %s\n\n%s", what, usage);
    return EXIT_USAGE;
}

static const char **option_slot(struct options *o, const char *arg)
{
    if (strcmp(arg, "--account") == 0)
        return &o->account;
    if (strcmp(arg, "--new-account") == 0)
        return &o->new_account;
    if (strcmp(arg, "--email") == 0)
        return &o->email;
    if (strcmp(arg, "--kind") == 0)
        return &o->kind;
    if (strcmp(arg, "--name") == 0)
        return &o->name;
    return NULL;
}

/* Returns what is wrong, or NULL. */
static const char *parse(struct options *o, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        const char **slot = option_slot(o, argv[i]);
        if (slot) {
            if (++i == argc)
                return "an option lacks its value";
            *slot = argv[i];
        } else if (argv[i][0] != '-' && !o->key_id) {
            o->key_id = argv[i];
        } else {
            return "an argument is not known";
        }
    }
    return NULL;
}

static int sql_failed(PGresult *r)
{
    fprintf(stderr, "tidings: %s", PQresultErrorMessage(r));
    PQclear(r);
    return EXIT_FAILED;
}

/* tk_sec_ or tk_pub_, and 43 characters of base64url. */
static void make_key(const char *kind, char key[KEY_SIZE], char hash_hex[65])
{
    unsigned char bits[KEY_RANDOM], hash[EVP_MAX_MD_SIZE];
    char text[4 * (KEY_RANDOM + 2) / 3 + 2];
    unsigned hash_len = 0;
    random_bytes(bits, sizeof bits);
    EVP_EncodeBlock((unsigned char *)text, bits, KEY_RANDOM);
    for (char *c = text; *c; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
    text[strcspn(text, "=")] = '\0';
    snprintf(key, KEY_SIZE, "tk_%.3s_%s", kind, text);
    EVP_Digest(key, strlen(key), hash, &hash_len, EVP_sha256(), NULL);
    for (unsigned i = 0; i < hash_len; i++)
        snprintf(hash_hex + 2 * i, 3, "%02x", hash[i]);
}

static int make_account(PGconn *conn, const struct options *o, char id[UUID_TEXT_SIZE])
{
    uuid_format(uuid_v7(), id);
    const char *values[3] = {id, o->new_account, o->email};
    PGresult *r = PQexecParams(conn, "insert into accounts (id, name, email) values ($1::uuid, $2, $3)", 3, NULL,
                               values, NULL, NULL, 0);
    if (PQresultStatus(r) != PGRES_COMMAND_OK)
        return sql_failed(r);
    PQclear(r);
    return EXIT_OK;
}

static int create(PGconn *conn, const struct options *o)
{
    char account[UUID_TEXT_SIZE], key_id[UUID_TEXT_SIZE], key[KEY_SIZE], hash[65], prefix[PREFIX + 1];
    const char *kind = o->kind ? o->kind : "secret";
    snprintf(account, sizeof account, "%s", o->account ? o->account : "");
    PQclear(PQexec(conn, "begin"));
    if (o->new_account && make_account(conn, o, account) != EXIT_OK)
        return EXIT_FAILED;
    uuid_format(uuid_v7(), key_id);
    make_key(kind, key, hash);
    snprintf(prefix, sizeof prefix, "%.*s", PREFIX, key);
    const char *values[6] = {key_id, account, kind, o->name ? o->name : "", hash, prefix};
    PGresult *r =
        PQexecParams(conn,
                     "insert into api_keys (id, account, kind, name, hash, prefix)"
                     " select $1::uuid, a.no, $3, $4, decode($5, 'hex'), $6 from accounts a where a.id = $2::uuid",
                     6, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(r) != PGRES_COMMAND_OK)
        return sql_failed(r);
    bool made = strcmp(PQcmdTuples(r), "1") == 0;
    PQclear(r);
    if (!made) {
        fprintf(stderr, "tidings: no account has the id %s\n", account);
        return EXIT_FAILED;
    }
    r = PQexec(conn, "commit");
    if (PQresultStatus(r) != PGRES_COMMAND_OK)
        return sql_failed(r);
    PQclear(r);
    printf("account_id=%s\nkey_id=%s\napi_key=%s\n", account, key_id, key);
    return EXIT_OK;
}

static int list(PGconn *conn, const struct options *o)
{
    const char *values[1] = {o->account};
    PGresult *r = PQexecParams(conn,
                               "select k.id, a.id, a.name, k.kind, k.prefix || '…', k.name,"
                               " to_char(k.created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),"
                               " coalesce(to_char(k.revoked_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '')"
                               " from api_keys k join accounts a on a.no = k.account"
                               " where $1::uuid is null or a.id = $1::uuid order by k.created_at, k.id",
                               1, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        return sql_failed(r);
    printf("%-36s  %-36s  %-16s  %-11s  %-14s  %-20s  %-20s  %s\n", "key_id", "account_id", "account", "kind", "key",
           "created", "revoked", "name");
    for (int i = 0; i < PQntuples(r); i++)
        printf("%-36s  %-36s  %-16s  %-11s  %-14s    %-20s  %-20s  %s\n", PQgetvalue(r, i, 0), PQgetvalue(r, i, 1),
               PQgetvalue(r, i, 2), PQgetvalue(r, i, 3), PQgetvalue(r, i, 4), PQgetvalue(r, i, 6), PQgetvalue(r, i, 7),
               PQgetvalue(r, i, 5));
    PQclear(r);
    return EXIT_OK;
}

/* The key's account. False: exit code in *code. */
static bool find_account(PGconn *conn, const struct options *o, char account[UUID_TEXT_SIZE], int *code)
{
    const char *values[1] = {o->key_id};
    PGresult *r =
        PQexecParams(conn, "select a.id from api_keys k join accounts a on a.no = k.account where k.id = $1::uuid", 1,
                     NULL, values, NULL, NULL, 0);
    if (PQresultStatus(r) != PGRES_TUPLES_OK) {
        *code = sql_failed(r);
        return false;
    }
    bool found = PQntuples(r) == 1;
    if (found)
        snprintf(account, UUID_TEXT_SIZE, "%s", PQgetvalue(r, 0, 0));
    else
        fprintf(stderr, "tidings: no key has the id %s\n", o->key_id);
    PQclear(r);
    *code = EXIT_FAILED;
    return found;
}

/* With its event, api_key.revoked, in one commit, numbered under the lock of the account's shard as lanes do it. */
static int revoke(PGconn *conn, const struct options *o)
{
    static const char *const steps[] = {
        "begin",
        "set local synchronous_commit = on",
        "set local lock_timeout = '10s'",
        "select lock_shards(array[$1::int])", /* a statement of its own: what comes after sees what was before */
        "select key_revoke($2::uuid, $1::int, $3::uuid)",
        "commit",
    };
    struct installation installation;
    char account[UUID_TEXT_SIZE], event[UUID_TEXT_SIZE], shard[16], why[256];
    int code;
    if (!installation_load(conn, &installation, why, sizeof why)) {
        fprintf(stderr, "tidings: %s\n", why);
        return EXIT_FAILED;
    }
    if (!find_account(conn, o, account, &code))
        return code;
    snprintf(shard, sizeof shard, "%u", (unsigned)(aggregate_hash(account, UUID_TEXT_SIZE - 1) % installation.shards));
    uuid_format(uuid_v7(), event);
    const char *values[3] = {shard, o->key_id, event};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        int count = strstr(steps[i], "$3") ? 3 : strstr(steps[i], "$1") ? 1 : 0;
        PGresult *r = PQexecParams(conn, steps[i], count, NULL, values, NULL, NULL, 0);
        if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
            return sql_failed(r);
        PQclear(r);
    }
    puts("revoked (processes that hear of it through Kafka forget it at once, others within KEY_CACHE_MS)");
    return EXIT_OK;
}

static const char *check(const char *verb, const struct options *o)
{
    struct uuid id;
    if (o->account && !uuid_parse(o->account, strlen(o->account), &id))
        return "--account must be a UUID";
    if (strcmp(verb, "create") == 0) {
        if (!o->account == !o->new_account)
            return "create needs either --account or --new-account";
        if (o->new_account && (!o->email || !email_valid(o->email, strlen(o->email))))
            return "--new-account needs --email with a valid address";
        if (o->kind && strcmp(o->kind, "secret") != 0 && strcmp(o->kind, "publishable") != 0)
            return "--kind must be secret or publishable";
    }
    if (strcmp(verb, "revoke") == 0 && (!o->key_id || !uuid_parse(o->key_id, strlen(o->key_id), &id)))
        return "revoke needs the KEY_ID (a UUID, see `tidings keys list`)";
    return NULL;
}

int command_keys(const struct config *config, int argc, char **argv)
{
    struct options o = {0};
    if (argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
        fputs(usage, stdout);
        return EXIT_OK;
    }
    if (argc == 0)
        return usage_error("create, list or revoke?");
    const char *verb = argv[0];
    int (*run)(PGconn *, const struct options *) = strcmp(verb, "create") == 0   ? create
                                                   : strcmp(verb, "list") == 0   ? list
                                                   : strcmp(verb, "revoke") == 0 ? revoke
                                                                                 : NULL;
    if (!run)
        return usage_error("create, list or revoke?");
    const char *wrong = parse(&o, argc - 1, argv + 1);
    if (!wrong)
        wrong = check(verb, &o);
    if (wrong)
        return usage_error(wrong);
    char why[512];
    PGconn *conn = pg_open(config->database_url, "tidings-keys", (int)config->db_connect_timeout_s, why, sizeof why);
    if (!conn || !schema_check(conn, why, sizeof why)) {
        fprintf(stderr, "tidings: %s\n", why);
        PQfinish(conn);
        return EXIT_FAILED;
    }
    int code = run(conn, &o);
    PQfinish(conn);
    return code;
}

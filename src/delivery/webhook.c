/* Sending webhooks. Nothing of the target is trusted: its address is looked at when the connection is opened (a name
 * can point anywhere, and elsewhere the next time), redirects are not followed, and what it answers is bounded. */
#include "delivery/webhook.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "core/clock.h"
#include "delivery/address.h"
#include "delivery/smtp.h"

#define SECRET_PREFIX "whsec_"
#define SECRET_BASE64_MAX 1024
#define ANSWER_MAX_BYTES 65536 /* of headers, and of the body */
#define QUOTE_MAX 127          /* of the answer's body, in an error */
#define BODY_WAIT_US 2000000   /* the status is known by then */
#define RETRY_AFTER_MAX_S 86400

struct webhook {
    const struct config *config;
    CURL *curl;
    bool allow_private;
    char error[CURL_ERROR_SIZE];
    /* The call under way. */
    const _Atomic int64_t *stop_at;
    int opened;          /* sockets */
    char refused[160];   /* an address that was not connected to, with the reason */
    int64_t answered_us; /* when the final answer's headers were complete; 0: they are not */
    size_t header_bytes, body_bytes;
    struct webhook_answer *answer;
};

/* --- signing --- */

static bool read_secret(const char *secret, struct buf *key)
{
    size_t prefix = strlen(SECRET_PREFIX);
    if (strncmp(secret, SECRET_PREFIX, prefix) != 0)
        return false;
    const char *text = secret + prefix;
    size_t len = strlen(text);
    if (len == 0 || len % 4 != 0 || len > SECRET_BASE64_MAX || strpbrk(text, " \t\r\n") || strcspn(text, "=") + 2 < len)
        return false;
    int n = EVP_DecodeBlock((unsigned char *)buf_grow(key, len), (const unsigned char *)text, (int)len);
    if (n <= 0)
        return false;
    key->len = (size_t)n - (text[len - 1] == '=') - (text[len - 2] == '='); /* it counts the padding */
    return key->len > 0;
}

static void add_mac(const struct buf *key, const struct buf *content, struct buf *out)
{
    unsigned char mac[EVP_MAX_MD_SIZE], text[2 * EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    if (!HMAC(EVP_sha256(), key->data, (int)key->len, (const unsigned char *)content->data, content->len, mac, &len))
        abort(); /* out of memory */
    EVP_EncodeBlock(text, mac, (int)len);
    buf_adds(out, "v1,");
    buf_adds(out, (const char *)text);
}

static bool add_signature(const char *secret, const struct buf *content, struct buf *out)
{
    struct buf key = {0};
    bool ok = read_secret(secret, &key);
    if (ok)
        add_mac(&key, content, out);
    buf_free(&key);
    return ok;
}

bool webhook_sign(const struct webhook_call *call, int64_t at_s, struct buf *out)
{
    struct buf content = {0};
    size_t before = out->len;
    buf_printf(&content, "%s.%lld.", call->id, (long long)at_s);
    buf_add(&content, call->body, call->body_len);
    bool ok = add_signature(call->secret, &content, out);
    if (ok && call->old_secret) {
        buf_addc(out, ' ');
        ok = add_signature(call->old_secret, &content, out);
    }
    if (!ok)
        out->len = before;
    buf_free(&content);
    return ok;
}

/* --- the target --- */

static bool add_part(CURLU *u, CURLUPart part, const char *before, char origin[WEBHOOK_ORIGIN_SIZE])
{
    char *text = NULL;
    size_t len = strlen(origin);
    bool ok = curl_url_get(u, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK &&
              len + strlen(before) + strlen(text) < WEBHOOK_ORIGIN_SIZE;
    if (ok)
        snprintf(origin + len, WEBHOOK_ORIGIN_SIZE - len, "%s%s", before, text);
    curl_free(text);
    return ok;
}

bool webhook_origin(const char *url, char origin[WEBHOOK_ORIGIN_SIZE])
{
    CURLU *u = curl_url();
    if (!u)
        abort(); /* out of memory */
    origin[0] = '\0';
    bool ok = curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK && add_part(u, CURLUPART_SCHEME, "", origin) &&
              (strcmp(origin, "http") == 0 || strcmp(origin, "https") == 0) &&
              add_part(u, CURLUPART_HOST, "://", origin) && add_part(u, CURLUPART_PORT, ":", origin);
    curl_url_cleanup(u);
    for (char *c = origin; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    return ok;
}

static bool is_local_name(const char *host)
{
    static const char local[] = "localhost";
    size_t len = strlen(host), n = sizeof local - 1;
    if (len > 0 && host[len - 1] == '.')
        len--;
    return len >= n && strncasecmp(host + len - n, local, n) == 0 && (len == n || host[len - n - 1] == '.');
}

/* host: as libcurl has it: an IPv4 address in its usual form, an IPv6 address in brackets. */
static const char *special_host(char *host)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (is_local_name(host))
        return "a loopback address";
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1)
        return address_special((const struct sockaddr *)&v4);
    if (host[0] != '[')
        return NULL;
    host[strcspn(host, "]%")] = '\0'; /* a zone may follow */
    return inet_pton(AF_INET6, host + 1, &v6.sin6_addr) == 1 ? address_special((const struct sockaddr *)&v6) : NULL;
}

const char *webhook_special(const char *url)
{
    CURLU *u = curl_url();
    char *host = NULL;
    if (!u)
        abort(); /* out of memory */
    bool ok =
        curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK && curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK;
    const char *what = ok ? special_host(host) : NULL;
    curl_free(host);
    curl_url_cleanup(u);
    return what;
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct webhook *w = arg;
    const char *special = w->allow_private ? NULL : address_special(&address->addr);
    (void)purpose;
    if (special) {
        char text[NI_MAXHOST] = "?";
        getnameinfo(&address->addr, address->addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
        snprintf(w->refused, sizeof w->refused, "%.64s is %s", text, special);
        return CURL_SOCKET_BAD;
    }
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    w->opened++;
    return fd;
}

/* --- the answer --- */

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
    struct webhook *w = arg;
    size_t len = size * count;
    long status = 0;
    w->header_bytes += len;
    if (w->header_bytes > ANSWER_MAX_BYTES)
        return 0; /* ends the call */
    curl_easy_getinfo(w->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && (data[0] == '\r' || data[0] == '\n'))
        w->answered_us = clock_mono_us();
    return len;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct webhook *w = arg;
    char *kept = w->answer->body;
    size_t len = size * count, used = strlen(kept);
    for (size_t i = 0; i < len && used < WEBHOOK_BODY_SIZE - 1 && data[i] != '\0'; i++)
        kept[used++] = data[i];
    kept[used] = '\0';
    w->body_bytes += len;
    return w->body_bytes > ANSWER_MAX_BYTES ? 0 : len; /* 0 ends the call: the status is known by now */
}

/* Called about once a second, also while nothing moves: ends a call that would outlast the process's stop, and one whose answer
 * has no end. */
static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    const struct webhook *w = arg;
    int64_t stop = w->stop_at ? atomic_load_explicit(w->stop_at, memory_order_relaxed) : 0;
    int64_t now = clock_mono_us();
    (void)down_total, (void)down, (void)up_total, (void)up;
    return (stop != 0 && now >= stop) || (w->answered_us != 0 && now - w->answered_us >= BODY_WAIT_US);
}

/* --- the call --- */

struct webhook *webhook_open(const struct config *config)
{
    smtp_global_start(); /* libcurl's */
    struct webhook *w = xcalloc(1, sizeof *w);
    w->config = config;
    w->allow_private = strcmp(config->webhook_allow_private, "on") == 0;
    w->curl = curl_easy_init();
    if (!w->curl)
        abort(); /* out of memory */
    curl_easy_setopt(w->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(w->curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(w->curl, CURLOPT_PROXY, ""); /* whatever the environment says: it would connect in our stead */
    curl_easy_setopt(w->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(w->curl, CURLOPT_USERAGENT, "Tidings/" TIDINGS_VERSION);
    curl_easy_setopt(w->curl, CURLOPT_TIMEOUT_MS, (long)config->webhook_timeout_ms);
    curl_easy_setopt(w->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)config->webhook_timeout_ms);
    curl_easy_setopt(w->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(w->curl, CURLOPT_FORBID_REUSE, 1L); /* targets are many, and a kept connection may be dead */
    curl_easy_setopt(w->curl, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(w->curl, CURLOPT_OPENSOCKETDATA, w);
    curl_easy_setopt(w->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(w->curl, CURLOPT_HEADERDATA, w);
    curl_easy_setopt(w->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(w->curl, CURLOPT_WRITEDATA, w);
    curl_easy_setopt(w->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(w->curl, CURLOPT_XFERINFODATA, w);
    curl_easy_setopt(w->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(w->curl, CURLOPT_ERRORBUFFER, w->error);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(w->curl, CURLOPT_QUICK_EXIT,
                     1L); /* a name server that does not answer must not outlast the time-out */
#endif
    return w;
}

void webhook_close(struct webhook *w)
{
    if (!w)
        return;
    curl_easy_cleanup(w->curl);
    free(w);
}

static int64_t retry_after_s(const struct webhook *w)
{
    curl_off_t wait = 0;
    curl_easy_getinfo(w->curl, CURLINFO_RETRY_AFTER, &wait);
    return wait < 0 ? 0 : wait > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S : (int64_t)wait;
}

static enum webhook_end judge_status(const struct webhook *w)
{
    struct webhook_answer *a = w->answer;
    if (a->status >= 200 && a->status <= 299)
        return WEBHOOK_DELIVERED;
    bool redirect = a->status >= 300 && a->status <= 399;
    snprintf(a->why, sizeof a->why, "HTTP %d%s%s%.*s", a->status, redirect ? ", which is not followed" : "",
             a->body[0] ? ": " : "", QUOTE_MAX, a->body);
    a->wait_s = retry_after_s(w);
    return a->status == 410 ? WEBHOOK_GONE : WEBHOOK_RETRY;
}

static enum webhook_end judge(const struct webhook *w, CURLcode code)
{
    struct webhook_answer *a = w->answer;
    long status = 0;
    curl_easy_getinfo(w->curl, CURLINFO_RESPONSE_CODE, &status);
    a->status = w->answered_us != 0 ? (int)status : 0;
    if (w->answered_us != 0) /* what comes after the headers, or does not, changes nothing */
        return judge_status(w);
    if (code == CURLE_ABORTED_BY_CALLBACK) {
        snprintf(a->why, sizeof a->why, "the process is stopping");
        return WEBHOOK_STOPPED;
    }
    if (w->opened == 0 && w->refused[0]) {
        snprintf(a->why, sizeof a->why, "%s, which webhooks may not go to (WEBHOOK_ALLOW_PRIVATE)", w->refused);
        return WEBHOOK_REJECT;
    }
    snprintf(a->why, sizeof a->why, "webhook: %s", w->error[0] ? w->error : curl_easy_strerror(code));
    bool bad_url = code == CURLE_URL_MALFORMAT || (code == CURLE_UNSUPPORTED_PROTOCOL && w->opened == 0);
    return bad_url ? WEBHOOK_REJECT : WEBHOOK_RETRY;
}

static struct curl_slist *add_header(struct curl_slist *list, const char *text)
{
    list = curl_slist_append(list, text);
    if (!list)
        abort(); /* out of memory */
    return list;
}

static struct curl_slist *make_headers(const char *id, int64_t at_s, struct buf *signature)
{
    struct buf line = {0};
    struct curl_slist *list = add_header(NULL, "content-type: application/json");
    list = add_header(list, "accept: */*");
    list = add_header(list, "expect:"); /* none: no waiting for a "100 Continue" */
    buf_printf(&line, "webhook-id: %s", id);
    list = add_header(list, buf_cstr(&line));
    buf_clear(&line);
    buf_printf(&line, "webhook-timestamp: %lld", (long long)at_s);
    list = add_header(list, buf_cstr(&line));
    buf_clear(&line);
    buf_printf(&line, "webhook-signature: %s", buf_cstr(signature));
    list = add_header(list, buf_cstr(&line));
    buf_free(&line);
    return list;
}

static void start_over(struct webhook *w, const _Atomic int64_t *stop_at, struct webhook_answer *answer)
{
    w->stop_at = stop_at;
    w->opened = 0;
    w->answered_us = 0;
    w->header_bytes = w->body_bytes = 0;
    w->error[0] = w->refused[0] = '\0';
    w->answer = answer;
    *answer = (struct webhook_answer){0};
}

enum webhook_end webhook_send(struct webhook *w, const struct webhook_call *call, const _Atomic int64_t *stop_at,
                              struct webhook_answer *answer)
{
    struct buf signature = {0};
    start_over(w, stop_at, answer);
    if (!webhook_sign(call, call->now_s, &signature)) {
        snprintf(answer->why, sizeof answer->why, "the webhook's secret is malformed");
        buf_free(&signature);
        return WEBHOOK_REJECT;
    }
    struct curl_slist *headers = make_headers(call->id, call->now_s, &signature);
    curl_easy_setopt(w->curl, CURLOPT_URL, call->url);
    curl_easy_setopt(w->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(w->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body_len);
    curl_easy_setopt(w->curl, CURLOPT_POSTFIELDS, call->body);
    enum webhook_end end = judge(w, curl_easy_perform(w->curl));
    curl_easy_setopt(w->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    buf_free(&signature);
    return end;
}

/* Sending over SMTP. */
#include "delivery/smtp.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"

#define SOCKETS_MAX 8
#define LATE_US 50000 /* libcurl's own time-out comes first, if it comes: its error says more */

struct smtp {
    const struct config *config;
    CURL *curl;
    char error[CURL_ERROR_SIZE];
    curl_socket_t sockets[SOCKETS_MAX]; /* open ones: one, or some while connecting */
    int socket_count;
    /* The message under way. */
    const char *data;
    size_t left;
    const _Atomic int64_t *stop_at;
    int64_t deadline_us; /* clock_mono_us */
};

static pthread_once_t started = PTHREAD_ONCE_INIT;

static void start(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

void smtp_global_start(void)
{
    pthread_once(&started, start);
}

/* libcurl says QUIT to a connection before it closes it, and waits for the answer whatever CURLOPT_TIMEOUT_MS says: a server
 * that hangs must not hold us so long. So its sockets are known here, and are shut down before that; and where libcurl
 * closes by itself (after most errors), on_progress ends the wait. */
static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct smtp *s = arg;
    (void)purpose;
    if (s->socket_count == SOCKETS_MAX)
        return CURL_SOCKET_BAD;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd >= 0)
        s->sockets[s->socket_count++] = fd;
    return fd < 0 ? CURL_SOCKET_BAD : fd;
}

static int on_close(void *arg, curl_socket_t fd)
{
    struct smtp *s = arg;
    for (int i = 0; i < s->socket_count; i++)
        if (s->sockets[i] == fd)
            s->sockets[i--] = s->sockets[--s->socket_count];
    return close(fd);
}

static void shut_down(const struct smtp *s)
{
    for (int i = 0; i < s->socket_count; i++)
        shutdown(s->sockets[i], SHUT_RDWR);
}

static size_t on_read(char *to, size_t size, size_t count, void *arg)
{
    struct smtp *s = arg;
    size_t n = size * count < s->left ? size * count : s->left;
    memcpy(to, s->data, n);
    s->data += n;
    s->left -= n;
    return n;
}

/* Called about once a second, also while nothing moves, and while an answer to QUIT is waited for: ends what would outlast
 * its time or the process's stop. */
static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    const struct smtp *s = arg;
    int64_t stop = s->stop_at ? atomic_load_explicit(s->stop_at, memory_order_relaxed) : 0, now = clock_mono_us();
    (void)down_total, (void)down, (void)up_total, (void)up;
    return now >= s->deadline_us + LATE_US || (stop != 0 && now >= stop);
}

/* A password must not go over the wire in the clear because somebody took STARTTLS out of the server's greeting. */
static long tls_of(const struct config *config)
{
    bool try = strcmp(config->smtp_starttls, "try") == 0;
    if (strcmp(config->smtp_starttls, "require") == 0 || (try && config->smtp_username))
        return CURLUSESSL_ALL;
    return try ? CURLUSESSL_TRY : CURLUSESSL_NONE;
}

/* Whether there is a certificate in the file; else errno, 0 when it can be read. */
static bool has_certificate(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    X509 *certificate = PEM_read_X509(file, NULL, NULL, NULL);
    errno = ferror(file) ? errno : 0;
    fclose(file);
    X509_free(certificate);
    ERR_clear_error();
    return certificate != NULL;
}

bool smtp_check(const struct config *config, char *why, size_t why_size)
{
    const char *ca = config->smtp_ca_file;
    if (strncmp(config->smtp_url, "smtp://", 7) != 0 && strncmp(config->smtp_url, "smtps://", 8) != 0)
        snprintf(why, why_size, "SMTP_URL must begin with smtp:// or smtps://");
    else if (config->smtp_password && !config->smtp_username)
        snprintf(why, why_size, "SMTP_PASSWORD is set, but SMTP_USERNAME is not");
    else if (config->smtp_username && !config->smtp_password)
        snprintf(why, why_size, "SMTP_USERNAME is set, but SMTP_PASSWORD is not");
    else if (ca && !has_certificate(ca))
        snprintf(why, why_size, "SMTP_CA_FILE: %s %s%s%s", errno ? "cannot read" : "no certificate in PEM form is in",
                 ca, errno ? ": " : "", errno ? strerror(errno) : "");
    else
        return true;
    return false;
}

struct smtp *smtp_open(const struct config *config)
{
    smtp_global_start();
    struct smtp *s = xcalloc(1, sizeof *s);
    s->config = config;
    s->curl = curl_easy_init();
    if (!s->curl)
        abort(); /* out of memory */
    curl_easy_setopt(s->curl, CURLOPT_URL, config->smtp_url);
    curl_easy_setopt(s->curl, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt(s->curl, CURLOPT_USE_SSL, tls_of(config));
    if (config->smtp_ca_file)
        curl_easy_setopt(s->curl, CURLOPT_CAINFO, config->smtp_ca_file);
    if (config->smtp_username) {
        curl_easy_setopt(s->curl, CURLOPT_USERNAME, config->smtp_username);
        curl_easy_setopt(s->curl, CURLOPT_PASSWORD, config->smtp_password ? config->smtp_password : "");
    }
    curl_easy_setopt(s->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)config->smtp_timeout_ms);
    /* Two minutes, by default, for QUIT where on_progress is not asked: when a kept connection makes room. */
    curl_easy_setopt(s->curl, CURLOPT_SERVER_RESPONSE_TIMEOUT, (long)(config->smtp_timeout_ms + 999) / 1000);
    curl_easy_setopt(s->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(s->curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(s->curl, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(s->curl, CURLOPT_READDATA, s);
    curl_easy_setopt(s->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(s->curl, CURLOPT_XFERINFODATA, s);
    curl_easy_setopt(s->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(s->curl, CURLOPT_ERRORBUFFER, s->error);
    curl_easy_setopt(s->curl, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(s->curl, CURLOPT_OPENSOCKETDATA, s);
    curl_easy_setopt(s->curl, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    curl_easy_setopt(s->curl, CURLOPT_CLOSESOCKETDATA, s);
    curl_easy_setopt(s->curl, CURLOPT_MAXCONNECTS, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(s->curl, CURLOPT_QUICK_EXIT,
                     1L); /* a name server that does not answer must not outlast the time-out */
#endif
    return s;
}

void smtp_close(struct smtp *s)
{
    if (!s)
        return;
    shut_down(s);
    curl_easy_cleanup(s->curl);
    free(s);
}

/* Whose fault a refusal is. libcurl says "MAIL failed: 550" when the server refuses the sender: that is every mail's
 * trouble, unless it is about this one's size (552) or address form (553, 555). */
static enum smtp_end judge_answer(const struct smtp *s, long code)
{
    bool sender = strncmp(s->error, "MAIL failed", 11) == 0;
    if (code == 421 || code == 530 || code == 534 || code == 535 || code == 538)
        return SMTP_UNAVAILABLE;
    if (code >= 500 && sender && code != 552 && code != 553 && code != 555)
        return SMTP_UNAVAILABLE;
    return code >= 500 ? SMTP_REJECT : SMTP_RETRY;
}

static enum smtp_end judge(const struct smtp *s, CURLcode code)
{
    long answer = 0;
    curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &answer);
    switch (code) {
    case CURLE_OK: return SMTP_SENT;
    case CURLE_SEND_ERROR:         /* MAIL, RCPT or DATA was refused; or the connection broke */
    case CURLE_WEIRD_SERVER_REPLY: /* the message was refused after its end; or nonsense */
    case CURLE_REMOTE_ACCESS_DENIED: return answer >= 400 && answer <= 599 ? judge_answer(s, answer) : SMTP_UNAVAILABLE;
    default: return SMTP_UNAVAILABLE;
    }
}

/* Whether it was the kept connection that failed: servers close them after a while, which says nothing. */
static bool was_stale(const struct smtp *s, CURLcode code)
{
    long connects = 1;
    curl_easy_getinfo(s->curl, CURLINFO_NUM_CONNECTS, &connects);
    return connects == 0 && (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING ||
                             code == CURLE_WEIRD_SERVER_REPLY);
}

static enum smtp_end perform(struct smtp *s, const void *data, size_t len, CURLcode *code, char *why, size_t why_size)
{
    long answer = 0;
    int64_t left_ms = (s->deadline_us - clock_mono_us()) / 1000;
    s->data = data;
    s->left = len;
    s->error[0] = '\0';
    curl_easy_setopt(s->curl, CURLOPT_TIMEOUT_MS, left_ms > 0 ? (long)left_ms : 1L);
    *code = curl_easy_perform(s->curl);
    enum smtp_end end = judge(s, *code);
    curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &answer);
    if (end == SMTP_SENT)
        return end;
    snprintf(why, why_size, "SMTP: %s", s->error[0] ? s->error : curl_easy_strerror(*code));
    if (*code == CURLE_WEIRD_SERVER_REPLY && answer >= 400)
        snprintf(why, why_size, "SMTP: the message was refused: %ld", answer);
    if (end == SMTP_UNAVAILABLE)
        shut_down(s);
    return end;
}

enum smtp_end smtp_send(struct smtp *s, const char *sender, const char *recipient, const void *data, size_t len,
                        const _Atomic int64_t *stop_at, char *why, size_t why_size)
{
    CURLcode code;
    struct curl_slist *to = curl_slist_append(NULL, recipient);
    if (!to)
        abort(); /* out of memory */
    s->stop_at = stop_at;
    s->deadline_us = clock_mono_us() + s->config->smtp_timeout_ms * 1000;
    curl_easy_setopt(s->curl, CURLOPT_MAIL_FROM, sender);
    curl_easy_setopt(s->curl, CURLOPT_MAIL_RCPT, to);
    curl_easy_setopt(s->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)len);
    enum smtp_end end = perform(s, data, len, &code, why, why_size);
    if (end == SMTP_UNAVAILABLE && was_stale(s, code)) {
        curl_easy_setopt(s->curl, CURLOPT_FRESH_CONNECT, 1L);
        end = perform(s, data, len, &code, why, why_size);
        curl_easy_setopt(s->curl, CURLOPT_FRESH_CONNECT, 0L);
    }
    curl_slist_free_all(to);
    return end;
}

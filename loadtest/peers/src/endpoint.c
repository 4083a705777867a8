/* The least that libh2o can do with a sign-up: take the request with its body, answer 201 with JSON of a given size. It is
 * set up as src/http sets it up, so what Tidings takes more is Tidings' own. Prints its address, ends on SIGTERM.
 *
 * endpoint BYTES */
#include <h2o.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096, MAX_BODY = 65536, TIMEOUT_MS = 15000 };

static h2o_globalconf_t globalconf;
static h2o_context_t context;
static h2o_accept_ctx_t accept_ctx;
static char *body;
static size_t body_len;
static size_t read_bytes; /* so that the body is looked at */

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    static h2o_generator_t generator = {NULL, NULL};
    (void)self;
    for (size_t i = 0; i < req->entity.len; i++)
        read_bytes += req->entity.base[i] == '"';
    req->res.status = 201;
    req->res.reason = "Created";
    req->res.content_length = body_len;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, H2O_STRLIT("application/json"));
    h2o_iovec_t part = h2o_iovec_init(body, body_len);
    h2o_start_response(req, &generator);
    h2o_send(req, &part, 1, 1);
    return 0;
}

static void on_closed(uv_handle_t *tcp)
{
    free(tcp);
}

static void on_connection(uv_stream_t *listener, int status)
{
    if (status < 0)
        return;
    uv_tcp_t *tcp = malloc(sizeof *tcp);
    if (!tcp)
        abort();
    uv_tcp_init(listener->loop, tcp);
    if (uv_accept(listener, (uv_stream_t *)tcp) != 0) {
        uv_close((uv_handle_t *)tcp, on_closed);
        return;
    }
    h2o_accept(&accept_ctx, h2o_uv_socket_create((uv_stream_t *)tcp, on_closed));
}

static void configure(uv_loop_t *loop)
{
    h2o_config_init(&globalconf);
    globalconf.server_name = h2o_iovec_init(NULL, 0);
    globalconf.max_request_entity_size = MAX_BODY;
    globalconf.http1.req_timeout = TIMEOUT_MS;
    globalconf.http1.upgrade_to_http2 = 0;
    h2o_hostconf_t *host = h2o_config_register_host(&globalconf, h2o_iovec_init(H2O_STRLIT("endpoint")), 65535);
    h2o_create_handler(&host->fallback_path, sizeof(h2o_handler_t))->on_req = on_request;
    h2o_context_init(&context, loop, &globalconf);
    accept_ctx.ctx = &context;
    accept_ctx.hosts = globalconf.hosts;
}

static int listen_somewhere(int *port)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        return -1;
    *port = ntohs(address.sin_port);
    return fd;
}

static void make_body(size_t len)
{
    body_len = len < 8 ? 8 : len;
    body = malloc(body_len);
    if (!body)
        abort();
    memset(body, 'x', body_len);
    memcpy(body, "{\"x\":\"", 6);
    memcpy(body + body_len - 2, "\"}", 2);
}

static void on_signal(int number)
{
    (void)number;
    _exit(0);
}

int main(int argc, char **argv)
{
    uv_loop_t loop;
    uv_tcp_t listener;
    int port;
    if (argc != 2 || atoi(argv[1]) <= 0) {
        fputs("usage: endpoint BYTES\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_signal);
    make_body((size_t)atoi(argv[1]));
    uv_loop_init(&loop);
    configure(&loop);
    int fd = listen_somewhere(&port);
    uv_tcp_init(&loop, &listener);
    if (fd < 0 || uv_tcp_open(&listener, fd) != 0 ||
        uv_listen((uv_stream_t *)&listener, SOMAXCONN, on_connection) != 0) {
        perror("endpoint: cannot listen");
        return 1;
    }
    printf("http://127.0.0.1:%d\n", port);
    fflush(stdout);
    return uv_run(&loop, UV_RUN_DEFAULT);
}

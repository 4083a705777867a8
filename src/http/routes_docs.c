/* The API's description, for people and their tools. No key. */
#include "core/embed.h"
#include "http/answer.h"
#include "http/routes.h"

void route_openapi(struct request *r)
{
    struct buf *out = answer_body(r);
    const struct embedded_file *file = &embedded_docs[0]; /* the only one, see CMakeLists.txt */
    buf_add(out, file->data, file->size);
    answer_header(r, "access-control-allow-origin", "*"); /* viewers are web pages elsewhere */
    answer_header(r, "cache-control", "public, max-age=300");
    answer_send(r, 200, "application/yaml", out);
}

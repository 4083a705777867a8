/* The error table, made readable. */
#include "core/err.h"

#include <stddef.h>

struct err_info {
    const char *name, *slug, *title;
    int http_status;
    bool retriable;
};

static const struct err_info infos[ERR_COUNT] = {
#define ERR_INFO(id, status, again, slug_, title_)                                                                     \
    [id] = {.name = #id, .slug = slug_, .title = title_, .http_status = status, .retriable = again},
    ERR_TABLE(ERR_INFO)
#undef ERR_INFO
};

/* A number that is no error of ours must not be taken for success. */
static const struct err_info *info_of(enum err e)
{
    size_t i = (size_t)e;
    return &infos[i < ERR_COUNT ? i : ERR_INTERNAL];
}

const char *err_name(enum err e)
{
    return info_of(e)->name;
}

int err_http_status(enum err e)
{
    return info_of(e)->http_status;
}

bool err_retriable(enum err e)
{
    return info_of(e)->retriable;
}

const char *err_slug(enum err e)
{
    return info_of(e)->slug;
}

const char *err_title(enum err e)
{
    return info_of(e)->title;
}

/* What a lane knows of campaigns: found as long as it holds, and never more than there is room for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "store/campaigns.h"

enum { SHARDS = 4 };

static struct campaign make(uint32_t no, uint32_t shard)
{
    static int32_t milestones[] = {10, 100};
    return (struct campaign){.id = uuid_v7(),
                             .no = no,
                             .shard = shard,
                             .version = 5,
                             .places = 3,
                             .landing_url = {"https://example.com/", 20},
                             .milestones = milestones,
                             .milestone_count = 2};
}

static void test_put_and_find(void **state)
{
    (void)state;
    struct campaigns *c = campaigns_new(8, SHARDS);
    struct campaign one = make(1, 0), unknown = make(2, 0);
    campaigns_begin(c);
    campaigns_put(c, &one);
    campaigns_begin(c);
    struct campaign *found = campaigns_find(c, one.id);
    assert_non_null(found);
    assert_int_equal(found->no, 1);
    assert_int_equal(found->milestones[1], 100);
    assert_ptr_not_equal(found->milestones, one.milestones);
    assert_memory_equal(found->landing_url.data, "https://example.com/", 20);
    assert_null(campaigns_find(c, unknown.id));

    one.version = 9; /* loaded again: in its place */
    one.landing_url = (struct text){NULL, 0};
    one.milestone_count = 0;
    campaigns_put(c, &one);
    campaigns_begin(c);
    found = campaigns_find(c, one.id);
    assert_int_equal(found->version, 9);
    assert_null(found->landing_url.data);
    campaigns_free(c);
}

static void test_what_is_numbered_is_of_one_batch(void **state)
{
    (void)state;
    struct campaigns *c = campaigns_new(8, SHARDS);
    struct campaign one = make(1, 0);
    campaigns_begin(c);
    campaigns_put(c, &one);
    campaigns_begin(c);
    campaigns_find(c, one.id)->batch_places = 7;
    assert_int_equal(campaigns_find(c, one.id)->batch_places, 7);
    campaigns_begin(c);
    assert_int_equal(campaigns_find(c, one.id)->batch_places, 0);
    campaigns_free(c);
}

static void test_forget(void **state)
{
    (void)state;
    struct campaigns *c = campaigns_new(8, SHARDS);
    struct campaign one = make(1, 0), two = make(2, 0), three = make(3, 1);
    campaigns_begin(c);
    campaigns_put(c, &one);
    campaigns_put(c, &two);
    campaigns_put(c, &three);
    campaigns_forget(c, one.id);
    campaigns_begin(c);
    assert_null(campaigns_find(c, one.id));
    assert_non_null(campaigns_find(c, two.id));
    campaigns_forget_shard(c, 0);
    campaigns_begin(c);
    assert_null(campaigns_find(c, two.id));
    assert_non_null(campaigns_find(c, three.id));
    campaigns_put(c, &two); /* known again */
    campaigns_begin(c);
    assert_non_null(campaigns_find(c, two.id));
    campaigns_free(c);
}

/* What the batch uses stays; of the others as many as there is room for. */
static void test_room(void **state)
{
    (void)state;
    enum { ROOM = 4, MANY = 100 };
    struct campaigns *c = campaigns_new(ROOM, SHARDS);
    struct campaign all[MANY];
    for (uint32_t i = 0; i < MANY; i++) {
        all[i] = make(i + 1, i % SHARDS);
        campaigns_begin(c);
        campaigns_put(c, &all[0]);
        campaigns_put(c, &all[i]);
        campaigns_begin(c);
        assert_non_null(campaigns_find(c, all[0].id));
        assert_non_null(campaigns_find(c, all[i].id));
    }
    size_t known = 0;
    for (uint32_t i = 0; i < MANY; i++)
        known += campaigns_find(c, all[i].id) != NULL;
    assert_true(known >= 2 && known <= ROOM);
    campaigns_free(c);
    campaigns_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_find),
        cmocka_unit_test(test_what_is_numbered_is_of_one_batch),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

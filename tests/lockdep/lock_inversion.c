// SPDX-License-Identifier: GPL-2.0
/*
 * A fault for lockdep to find: two mutexes that are taken in one order, and then in the other.
 *
 * A run of the debug kernel without a report of lockdep proves something only where lockdep would have spoken: it switches
 * itself off at its first report, at some faults of other kinds, and where a limit of its own is reached. This module is loaded
 * at the end of such a run (tests/vm/lockdep.sh), and the report has to come. One thread takes the mutexes one after the
 * other, so that nothing can block: what lockdep reports is the order, not a deadlock.
 */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/mutex.h>

static DEFINE_MUTEX(inversion_first);
static DEFINE_MUTEX(inversion_second);

static void __init take_both(struct mutex *outer, struct mutex *inner)
{
	mutex_lock(outer);
	mutex_lock(inner);
	mutex_unlock(inner);
	mutex_unlock(outer);
}

static int __init lock_inversion_init(void)
{
	take_both(&inversion_first, &inversion_second);
	take_both(&inversion_second, &inversion_first);
	return 0;
}

static void __exit lock_inversion_exit(void)
{
}

module_init(lock_inversion_init);
module_exit(lock_inversion_exit);

MODULE_DESCRIPTION("Takes two mutexes in both orders, which lockdep must report");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Provokes each complaint a kernel can make, so that the harness can prove
 * that it would notice: echo NAME > /sys/module/canary/parameters/provoke
 *
 * For throw-away guests only. A name whose checker is not built into the
 * kernel gives EOPNOTSUPP.
 */
#include <linux/bug.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poison.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

static unsigned int seconds = 5;
module_param(seconds, uint, 0644);
MODULE_PARM_DESC(seconds, "how long the lock-ups last");

/* Read where the compiler must not know the value. */
static int opaque_zero;
module_param(opaque_zero, int, 0644);

/*
 * Some complaints kill the task that causes them. It is a thread of its own,
 * so that whoever asked is told that it happened.
 */
struct victim {
	int (*work)(void *data);
	struct completion started;
};

static int __noreturn victim_main(void *data)
{
	struct victim *victim = data;
	int (*work)(void *data) = victim->work;

	complete(&victim->started);
	work(NULL);
	kthread_complete_and_exit(NULL, 0);
}

static int sacrifice(int (*work)(void *data))
{
	struct victim victim = { .work = work };
	struct task_struct *task;

	init_completion(&victim.started);
	task = kthread_run(victim_main, &victim, "canary");
	if (IS_ERR(task))
		return PTR_ERR(task);
	wait_for_completion(&victim.started);
	return 0;
}

static noinline int canary_warn(void *data)
{
	WARN(1, "canary: nothing is wrong\n");
	return 0;
}

static noinline int canary_bug(void *data)
{
	BUG_ON(!opaque_zero);
	return 0;
}

static noinline int canary_oops(void *data)
{
	int *nowhere = (int *)(long)opaque_zero;

	return READ_ONCE(*nowhere);
}

static noinline int canary_ubsan(void *data)
{
	int count = 40 + opaque_zero;

	pr_info("canary: 1 << 40 is %d\n", 1 << count);
	return 0;
}

/*
 * Twice as long as the spinning thread that is started next: khungtaskd may have
 * to wait for the CPU that this one occupies.
 */
static noinline int canary_hung(void *data)
{
	ktime_t end = ktime_add_ms(ktime_get(), 2 * seconds * MSEC_PER_SEC);

	while (ktime_before(ktime_get(), end)) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		schedule_timeout(2 * seconds * HZ);
	}
	return 0;
}

static void canary_nothing(struct rcu_head *head)
{
	kfree(head);
}

/* A CPU that does not schedule: soft lockup, and a stall for RCU, which waits. */
static noinline int canary_spin(void *data)
{
	struct rcu_head *head = kmalloc(sizeof(*head), GFP_KERNEL);
	ktime_t end;

	if (head)
		call_rcu(head, canary_nothing);
	end = ktime_add_ms(ktime_get(), seconds * MSEC_PER_SEC);
	preempt_disable();
	rcu_read_lock();
	while (ktime_before(ktime_get(), end))
		cpu_relax();
	rcu_read_unlock();
	preempt_enable();
	return 0;
}

static noinline int canary_list(void *data)
{
	LIST_HEAD(head);
	LIST_HEAD(entry);

	list_add(&entry, &head);
	head.next = LIST_POISON1;
	list_del(&entry);
	return 0;
}

static noinline int canary_refcount(void *data)
{
	refcount_t count = REFCOUNT_INIT(0);

	refcount_inc(&count);
	return 0;
}

static noinline int canary_atomic(void *data)
{
	static DEFINE_SPINLOCK(lock);

	spin_lock(&lock);
	might_sleep();
	spin_unlock(&lock);
	return 0;
}

static noinline int canary_kasan(void *data)
{
	char *byte = kmalloc(32, GFP_KERNEL);
	int value;

	if (!byte)
		return -ENOMEM;
	value = READ_ONCE(byte[32 + opaque_zero]);
	kfree(byte);
	return value;
}

static DEFINE_MUTEX(lock_a);
static DEFINE_MUTEX(lock_b);

static noinline int canary_lockdep(void *data)
{
	mutex_lock(&lock_a);
	mutex_lock(&lock_b);
	mutex_unlock(&lock_b);
	mutex_unlock(&lock_a);
	mutex_lock(&lock_b);
	mutex_lock(&lock_a);
	mutex_unlock(&lock_a);
	mutex_unlock(&lock_b);
	return 0;
}

static noinline int canary_slab(void *data)
{
	char *byte = kmalloc(64, GFP_KERNEL);

	if (!byte)
		return -ENOMEM;
	WRITE_ONCE(byte[64 + opaque_zero], 'x');
	kfree(byte);
	return 0;
}

static noinline int canary_leak(void *data)
{
	/* Forgotten on purpose; kmemleak finds it on its second scan. */
	void *lost = kmalloc(96 + opaque_zero, GFP_KERNEL);

	pr_info("canary: %s\n", lost ? "forgotten" : "no memory");
	return 0;
}

static const struct {
	const char *name;
	int (*work)(void *data);
	bool available;
	bool thread;	/* may kill its task, or takes long */
} canaries[] = {
	{ "warn", canary_warn, true, false },
	{ "bug", canary_bug, true, true },
	{ "oops", canary_oops, true, true },
	{ "ubsan", canary_ubsan, IS_ENABLED(CONFIG_UBSAN_SHIFT), false },
	{ "hung", canary_hung, IS_ENABLED(CONFIG_DETECT_HUNG_TASK), true },
	{ "spin", canary_spin, IS_ENABLED(CONFIG_SOFTLOCKUP_DETECTOR), true },
	{ "list", canary_list, IS_ENABLED(CONFIG_DEBUG_LIST), true },
	{ "refcount", canary_refcount, true, false },
	{ "atomic", canary_atomic, IS_ENABLED(CONFIG_DEBUG_ATOMIC_SLEEP), true },
	{ "kasan", canary_kasan, IS_ENABLED(CONFIG_KASAN), true },
	{ "lockdep", canary_lockdep, IS_ENABLED(CONFIG_PROVE_LOCKING), true },
	/* KASAN would be first to see it */
	{ "slab", canary_slab,
	  IS_ENABLED(CONFIG_SLUB_DEBUG_ON) && !IS_ENABLED(CONFIG_KASAN), true },
	{ "leak", canary_leak, IS_ENABLED(CONFIG_DEBUG_KMEMLEAK), false },
};

static int provoke_set(const char *value, const struct kernel_param *kp)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(canaries); i++) {
		if (!sysfs_streq(value, canaries[i].name))
			continue;
		if (!canaries[i].available)
			return -EOPNOTSUPP;
		if (canaries[i].thread)
			return sacrifice(canaries[i].work);
		canaries[i].work(NULL);
		return 0;
	}
	return -EINVAL;
}

static const struct kernel_param_ops provoke_ops = { .set = provoke_set };
module_param_cb(provoke, &provoke_ops, NULL, 0200);
MODULE_PARM_DESC(provoke, "name of the complaint to provoke");

static int __init canary_init(void)
{
	return 0;
}
module_init(canary_init);

static void __exit canary_exit(void)
{
}
module_exit(canary_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Provokes kernel complaints on purpose");

// SPDX-License-Identifier: GPL-2.0
/*
 * The bodies of helpers.h: hardly more than a call each, nothing decided here.
 */
#include <linux/blk-cgroup.h>
#include <linux/blkdev.h>
#include <linux/freezer.h>
#include <linux/huge_mm.h>
#include <linux/jiffies.h>
#include <linux/kdev_t.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mnt_idmapping.h>
#include <linux/pagemap.h>
#include <linux/ratelimit.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/workqueue.h>
#include <linux/writeback.h>

#include "helpers.h"

void cairnfs_helper_event_init(struct cairnfs_event *event)
{
	init_waitqueue_head(&event->queue);
	atomic64_set(&event->count, 0);
}

/* Acquire, here and in the conditions below: who sees a count sees what was written before it was raised. */
u64 cairnfs_helper_event_now(const struct cairnfs_event *event)
{
	return atomic64_read_acquire(&event->count);
}

static bool event_has_passed(const struct cairnfs_event *event, u64 seen)
{
	return cairnfs_helper_event_now(event) != seen;
}

/*
 * The increment is a full barrier before wq_has_sleeper(), which has one of its own; a waiter is on the queue, with its
 * state set by a full barrier, before it looks at the count for the last time. So either it is seen here, or it sees
 * the new count.
 */
void cairnfs_helper_event_signal(struct cairnfs_event *event)
{
	atomic64_inc_return(&event->count);
	if (wq_has_sleeper(&event->queue))
		wake_up_all(&event->queue);
}

void cairnfs_helper_event_wait(struct cairnfs_event *event, u64 seen)
{
	wait_event(event->queue, event_has_passed(event, seen));
}

int cairnfs_helper_event_wait_killable(struct cairnfs_event *event, u64 seen)
{
	return wait_event_killable(event->queue, event_has_passed(event, seen));
}

bool cairnfs_helper_event_wait_idle(struct cairnfs_event *event, u64 seen, u64 ms)
{
	unsigned long timeout = msecs_to_jiffies(min_t(u64, ms, INT_MAX));

	/* A thread that always finds its event signalled never sleeps, and would hold up a suspend. */
	try_to_freeze();
	wait_event_freezable_timeout(event->queue, event_has_passed(event, seen), timeout);
	return event_has_passed(event, seen);
}

bool cairnfs_helper_event_wait_us(struct cairnfs_event *event, u64 seen, u64 us)
{
	ktime_t timeout = ns_to_ktime(min_t(u64, us, INT_MAX) * NSEC_PER_USEC);

	return wait_event_hrtimeout(event->queue, event_has_passed(event, seen), timeout) == 0;
}

void cairnfs_helper_init_completion(struct completion *completion)
{
	init_completion(completion);
}

void cairnfs_helper_down_write_nested(struct rw_semaphore *semaphore, int subclass)
{
	down_write_nested(semaphore, subclass);
}

struct task_struct *cairnfs_helper_kthread_run(int (*function)(void *), void *data, const char *name)
{
	return kthread_run(function, data, "%s", name);
}

void cairnfs_helper_set_freezable(void)
{
	set_freezable();
}

u64 cairnfs_helper_ktime_get_coarse_real_ns(void)
{
	return ktime_get_coarse_real_ns();
}

u64 cairnfs_helper_ktime_get_ns(void)
{
	return ktime_get_ns();
}

/* One budget for all messages about damage: a hostile image must not flood the log. */
bool cairnfs_helper_ratelimit(void)
{
	static DEFINE_RATELIMIT_STATE(state, DEFAULT_RATELIMIT_INTERVAL, DEFAULT_RATELIMIT_BURST);

	return __ratelimit(&state);
}

unsigned int cairnfs_helper_memalloc_nofs_save(void)
{
	return memalloc_nofs_save();
}

void cairnfs_helper_memalloc_nofs_restore(unsigned int flags)
{
	memalloc_nofs_restore(flags);
}

unsigned int cairnfs_helper_memalloc_noreclaim_save(void)
{
	return memalloc_noreclaim_save();
}

void cairnfs_helper_memalloc_noreclaim_restore(unsigned int flags)
{
	memalloc_noreclaim_restore(flags);
}

struct kmem_cache *cairnfs_helper_inode_cache_create(const char *name, unsigned int size, void (*constructor)(void *))
{
	return kmem_cache_create(name, size, 0, SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, constructor);
}

void *cairnfs_helper_alloc_inode_sb(struct super_block *super_block, struct kmem_cache *cache)
{
	return alloc_inode_sb(super_block, cache, GFP_KERNEL);
}

bool cairnfs_helper_sb_rdonly(const struct super_block *super_block)
{
	return sb_rdonly(super_block);
}

void cairnfs_helper_super_set_uuid(struct super_block *super_block, const u8 *uuid)
{
	super_set_uuid(super_block, uuid, 16);
}

u64 cairnfs_helper_bdev_nr_bytes(struct block_device *device)
{
	return bdev_nr_bytes(device);
}

bool cairnfs_helper_bdev_read_only(struct block_device *device)
{
	return bdev_read_only(device);
}

struct block_device *cairnfs_helper_file_bdev(struct file *file)
{
	return file_bdev(file);
}

void cairnfs_helper_get_file(struct file *file)
{
	get_file(file);
}

bool cairnfs_helper_bdev_fua(struct block_device *device)
{
	return bdev_fua(device);
}

bool cairnfs_helper_bdev_write_cache(struct block_device *device)
{
	return bdev_write_cache(device);
}

unsigned int cairnfs_helper_bdev_logical_block_size(struct block_device *device)
{
	return bdev_logical_block_size(device);
}

struct bio *cairnfs_helper_bio_alloc(struct block_device *device, unsigned short pages, blk_opf_t operation)
{
	return bio_alloc(device, pages, operation, GFP_NOFS);
}

void cairnfs_helper_bio_charge_root(struct bio *bio)
{
	bio_associate_blkg_from_css(bio, blkcg_root_css);
}

struct page *cairnfs_helper_address_to_page(const void *address)
{
	if (is_vmalloc_addr(address))
		return vmalloc_to_page(address);
	return virt_addr_valid(address) ? virt_to_page(address) : NULL;
}

u32 cairnfs_helper_i_uid_read(const struct inode *inode)
{
	return i_uid_read(inode);
}

u32 cairnfs_helper_i_gid_read(const struct inode *inode)
{
	return i_gid_read(inode);
}

void cairnfs_helper_i_uid_write(struct inode *inode, u32 uid)
{
	i_uid_write(inode, uid);
}

void cairnfs_helper_i_gid_write(struct inode *inode, u32 gid)
{
	i_gid_write(inode, gid);
}

loff_t cairnfs_helper_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

void cairnfs_helper_i_size_write(struct inode *inode, loff_t bytes)
{
	i_size_write(inode, bytes);
}

struct timespec64 cairnfs_helper_inode_get_atime(const struct inode *inode)
{
	return inode_get_atime(inode);
}

struct timespec64 cairnfs_helper_inode_get_mtime(const struct inode *inode)
{
	return inode_get_mtime(inode);
}

struct timespec64 cairnfs_helper_inode_get_ctime(const struct inode *inode)
{
	return inode_get_ctime(inode);
}

void cairnfs_helper_inode_set_atime(struct inode *inode, time64_t seconds, long nanoseconds)
{
	inode_set_atime(inode, seconds, nanoseconds);
}

void cairnfs_helper_inode_set_mtime(struct inode *inode, time64_t seconds, long nanoseconds)
{
	inode_set_mtime(inode, seconds, nanoseconds);
}

void cairnfs_helper_inode_set_ctime(struct inode *inode, time64_t seconds, long nanoseconds)
{
	inode_set_ctime(inode, seconds, nanoseconds);
}

/*
 * Only who has a reference, or somebody who has one for him, can take another: the count of an inode without any is its
 * evictor's to look at, and what held it now would outlive it.
 */
void cairnfs_helper_inode_hold(struct inode *inode)
{
	BUG_ON(atomic_inc_return(&inode->i_count) < 2);
}

void cairnfs_helper_inode_lock(struct inode *inode)
{
	inode_lock(inode);
}

void cairnfs_helper_inode_unlock(struct inode *inode)
{
	inode_unlock(inode);
}

void cairnfs_helper_inode_lock_shared(struct inode *inode)
{
	inode_lock_shared(inode);
}

void cairnfs_helper_inode_unlock_shared(struct inode *inode)
{
	inode_unlock_shared(inode);
}

bool cairnfs_helper_is_sync(const struct inode *inode)
{
	return IS_SYNC(inode);
}

bool cairnfs_helper_is_dirsync(const struct inode *inode)
{
	return IS_DIRSYNC(inode);
}

void cairnfs_helper_remove_inode_hash(struct inode *inode)
{
	remove_inode_hash(inode);
}

dev_t cairnfs_helper_new_decode_dev(u32 device)
{
	return new_decode_dev(device);
}

u32 cairnfs_helper_new_encode_dev(dev_t device)
{
	return new_encode_dev(device);
}

static kgid_t iattr_kgid(struct mnt_idmap *idmap, const struct iattr *change, const struct inode *inode)
{
	if (change->ia_valid & ATTR_GID)
		return from_vfsgid(idmap, i_user_ns(inode), change->ia_vfsgid);
	return inode->i_gid;
}

/* What i_uid_read() gives after setattr_copy() of this change; the next one likewise for the group. */
u32 cairnfs_helper_iattr_uid(struct mnt_idmap *idmap, const struct iattr *change, const struct inode *inode)
{
	if (change->ia_valid & ATTR_UID)
		return from_kuid(i_user_ns(inode), from_vfsuid(idmap, i_user_ns(inode), change->ia_vfsuid));
	return i_uid_read(inode);
}

u32 cairnfs_helper_iattr_gid(struct mnt_idmap *idmap, const struct iattr *change, const struct inode *inode)
{
	return from_kgid(i_user_ns(inode), iattr_kgid(idmap, change, inode));
}

/* Whether setattr_copy() of this change leaves S_ISGID as the change has it: it looks at the new group. */
bool cairnfs_helper_iattr_keeps_setgid(struct mnt_idmap *idmap, const struct iattr *change,
				       const struct inode *inode)
{
	kgid_t gid = iattr_kgid(idmap, change, inode);

	return in_group_or_capable(idmap, inode, make_vfsgid(idmap, i_user_ns(inode), gid));
}

void cairnfs_helper_mapping_set_large_folios(struct address_space *mapping)
{
	mapping_set_large_folios(mapping);
}

void cairnfs_helper_mapping_clear_gfp_fs(struct address_space *mapping)
{
	mapping_set_gfp_mask(mapping, mapping_gfp_constraint(mapping, ~__GFP_FS));
}

void cairnfs_helper_filemap_invalidate_lock(struct address_space *mapping)
{
	filemap_invalidate_lock(mapping);
}

void cairnfs_helper_filemap_invalidate_unlock(struct address_space *mapping)
{
	filemap_invalidate_unlock(mapping);
}

void cairnfs_helper_filemap_invalidate_lock_shared(struct address_space *mapping)
{
	filemap_invalidate_lock_shared(mapping);
}

void cairnfs_helper_filemap_invalidate_unlock_shared(struct address_space *mapping)
{
	filemap_invalidate_unlock_shared(mapping);
}

bool cairnfs_helper_filemap_invalidate_trylock_shared(struct address_space *mapping)
{
	return filemap_invalidate_trylock_shared(mapping);
}

/* NULL: there is none. */
struct folio *cairnfs_helper_filemap_get_folio(struct address_space *mapping, loff_t position)
{
	struct folio *folio = filemap_get_folio(mapping, position >> PAGE_SHIFT);

	return IS_ERR(folio) ? NULL : folio;
}

void cairnfs_helper_folio_put(struct folio *folio)
{
	folio_put(folio);
}

struct folio *cairnfs_helper_page_folio(struct page *page)
{
	return page_folio(page);
}

void cairnfs_helper_folio_lock(struct folio *folio)
{
	folio_lock(folio);
}

void cairnfs_helper_folio_unlock(struct folio *folio)
{
	folio_unlock(folio);
}

loff_t cairnfs_helper_folio_pos(struct folio *folio)
{
	return folio_pos(folio);
}

size_t cairnfs_helper_folio_size(struct folio *folio)
{
	return folio_size(folio);
}

void cairnfs_helper_folio_zero_segment(struct folio *folio, size_t from, size_t to)
{
	folio_zero_segment(folio, from, to);
}

bool cairnfs_helper_folio_is_dirty(struct folio *folio)
{
	return folio_test_dirty(folio);
}

ssize_t cairnfs_helper_folio_mkwrite_check_truncate(struct folio *folio, struct inode *inode)
{
	return folio_mkwrite_check_truncate(folio, inode);
}

vm_fault_t cairnfs_helper_vmf_fs_error(int error)
{
	return vmf_fs_error(error);
}

void cairnfs_helper_sb_start_pagefault(struct super_block *super_block)
{
	sb_start_pagefault(super_block);
}

void cairnfs_helper_sb_end_pagefault(struct super_block *super_block)
{
	sb_end_pagefault(super_block);
}

/* sync_inodes_sb() with s_umount held, as it wants it; not when it cannot be had at once. */
bool cairnfs_helper_sync_inodes_trylock(struct super_block *super_block)
{
	if (!down_read_trylock(&super_block->s_umount))
		return false;
	sync_inodes_sb(super_block);
	up_read(&super_block->s_umount);
	return true;
}

struct workqueue_struct *cairnfs_helper_alloc_workqueue(const char *prefix, const char *name)
{
	return alloc_workqueue("%s-io/%s", WQ_MEM_RECLAIM | WQ_FREEZABLE, 0, prefix, name);
}

void cairnfs_helper_init_work(struct work_struct *work, void (*function)(struct work_struct *work))
{
	INIT_WORK(work, function);
}

void cairnfs_helper_queue_work(struct workqueue_struct *queue, struct work_struct *work)
{
	queue_work(queue, work);
}

void cairnfs_helper_cond_resched(void)
{
	cond_resched();
}

void cairnfs_helper_init_list_head(struct list_head *head)
{
	INIT_LIST_HEAD(head);
}

void cairnfs_helper_list_add(struct list_head *node, struct list_head *head)
{
	list_add(node, head);
}

void cairnfs_helper_list_del_init(struct list_head *node)
{
	list_del_init(node);
}

void cairnfs_helper_file_accessed(struct file *file)
{
	file_accessed(file);
}

ssize_t cairnfs_helper_generic_write_sync(struct kiocb *control, ssize_t written)
{
	return generic_write_sync(control, written);
}

/* Without huge pages thp_get_unmapped_area is NULL, and mmap() does what follows. */
unsigned long cairnfs_helper_get_unmapped_area(struct file *file, unsigned long address, unsigned long bytes,
					       unsigned long page_offset, unsigned long flags)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	return thp_get_unmapped_area(file, address, bytes, page_offset, flags);
#else
	return mm_get_unmapped_area(current->mm, file, address, bytes, page_offset, flags);
#endif
}

bool cairnfs_helper_dir_emit_dots(struct file *file, struct dir_context *context)
{
	return dir_emit_dots(file, context);
}

/* VFS calls this only where there are 32-bit programs, and so the function. */
long cairnfs_helper_compat_ptr_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
#ifdef CONFIG_COMPAT
	return compat_ptr_ioctl(file, command, argument);
#else
	return -ENOIOCTLCMD;
#endif
}

int cairnfs_helper_kobject_init_and_add(struct kobject *object, const struct kobj_type *type, struct kobject *parent,
					const char *name)
{
	return kobject_init_and_add(object, type, parent, "%s", name);
}

void cairnfs_helper_set_delayed_kfree(struct delayed_call *call, void *memory)
{
	set_delayed_call(call, kfree_link, memory);
}

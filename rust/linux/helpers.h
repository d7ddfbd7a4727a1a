/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Inline functions and macros of the kernel, as functions that Rust can call.
 */
#ifndef CAIRNFS_HELPERS_H
#define CAIRNFS_HELPERS_H

#include <linux/bio.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/kobject.h>
#include <linux/mm_types.h>
#include <linux/rwsem.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

/* A count that only grows, and those who wait for it to grow: event.rs. */
struct cairnfs_event {
	wait_queue_head_t queue;
	atomic64_t count;
};

void cairnfs_helper_event_init(struct cairnfs_event *event);
u64 cairnfs_helper_event_now(const struct cairnfs_event *event);
void cairnfs_helper_event_signal(struct cairnfs_event *event);
void cairnfs_helper_event_wait(struct cairnfs_event *event, u64 seen);
int cairnfs_helper_event_wait_killable(struct cairnfs_event *event, u64 seen);
bool cairnfs_helper_event_wait_idle(struct cairnfs_event *event, u64 seen, u64 ms);
bool cairnfs_helper_event_wait_us(struct cairnfs_event *event, u64 seen, u64 us);

void cairnfs_helper_init_completion(struct completion *completion);
void cairnfs_helper_down_write_nested(struct rw_semaphore *semaphore, int subclass);
struct task_struct *cairnfs_helper_kthread_run(int (*function)(void *), void *data, const char *name);
void cairnfs_helper_set_freezable(void);

u64 cairnfs_helper_ktime_get_coarse_real_ns(void);
u64 cairnfs_helper_ktime_get_ns(void);
bool cairnfs_helper_ratelimit(void);

unsigned int cairnfs_helper_memalloc_nofs_save(void);
void cairnfs_helper_memalloc_nofs_restore(unsigned int flags);
unsigned int cairnfs_helper_memalloc_noreclaim_save(void);
void cairnfs_helper_memalloc_noreclaim_restore(unsigned int flags);
struct kmem_cache *cairnfs_helper_inode_cache_create(const char *name, unsigned int size, void (*constructor)(void *));
void *cairnfs_helper_alloc_inode_sb(struct super_block *super_block, struct kmem_cache *cache);

bool cairnfs_helper_sb_rdonly(const struct super_block *super_block);
void cairnfs_helper_super_set_uuid(struct super_block *super_block, const u8 *uuid);
u64 cairnfs_helper_bdev_nr_bytes(struct block_device *device);
bool cairnfs_helper_bdev_read_only(struct block_device *device);
struct block_device *cairnfs_helper_file_bdev(struct file *file);
void cairnfs_helper_get_file(struct file *file);
bool cairnfs_helper_bdev_fua(struct block_device *device);
bool cairnfs_helper_bdev_write_cache(struct block_device *device);
unsigned int cairnfs_helper_bdev_logical_block_size(struct block_device *device);
struct bio *cairnfs_helper_bio_alloc(struct block_device *device, unsigned short pages, blk_opf_t operation);
void cairnfs_helper_bio_charge_root(struct bio *bio);
struct page *cairnfs_helper_address_to_page(const void *address);

u32 cairnfs_helper_i_uid_read(const struct inode *inode);
u32 cairnfs_helper_i_gid_read(const struct inode *inode);
void cairnfs_helper_i_uid_write(struct inode *inode, u32 uid);
void cairnfs_helper_i_gid_write(struct inode *inode, u32 gid);
loff_t cairnfs_helper_i_size_read(const struct inode *inode);
void cairnfs_helper_i_size_write(struct inode *inode, loff_t bytes);
struct timespec64 cairnfs_helper_inode_get_atime(const struct inode *inode);
struct timespec64 cairnfs_helper_inode_get_mtime(const struct inode *inode);
struct timespec64 cairnfs_helper_inode_get_ctime(const struct inode *inode);
void cairnfs_helper_inode_set_atime(struct inode *inode, time64_t seconds, long nanoseconds);
void cairnfs_helper_inode_set_mtime(struct inode *inode, time64_t seconds, long nanoseconds);
void cairnfs_helper_inode_set_ctime(struct inode *inode, time64_t seconds, long nanoseconds);
void cairnfs_helper_inode_hold(struct inode *inode);
void cairnfs_helper_inode_lock(struct inode *inode);
void cairnfs_helper_inode_unlock(struct inode *inode);
void cairnfs_helper_inode_lock_shared(struct inode *inode);
void cairnfs_helper_inode_unlock_shared(struct inode *inode);
bool cairnfs_helper_is_sync(const struct inode *inode);
bool cairnfs_helper_is_dirsync(const struct inode *inode);
void cairnfs_helper_remove_inode_hash(struct inode *inode);
dev_t cairnfs_helper_new_decode_dev(u32 device);
u32 cairnfs_helper_new_encode_dev(dev_t device);
u32 cairnfs_helper_iattr_uid(struct mnt_idmap *idmap, const struct iattr *change, const struct inode *inode);
u32 cairnfs_helper_iattr_gid(struct mnt_idmap *idmap, const struct iattr *change, const struct inode *inode);
bool cairnfs_helper_iattr_keeps_setgid(struct mnt_idmap *idmap, const struct iattr *change,
				       const struct inode *inode);
void cairnfs_helper_mapping_set_large_folios(struct address_space *mapping);
void cairnfs_helper_mapping_clear_gfp_fs(struct address_space *mapping);
void cairnfs_helper_filemap_invalidate_lock(struct address_space *mapping);
void cairnfs_helper_filemap_invalidate_unlock(struct address_space *mapping);
void cairnfs_helper_filemap_invalidate_lock_shared(struct address_space *mapping);
void cairnfs_helper_filemap_invalidate_unlock_shared(struct address_space *mapping);
bool cairnfs_helper_filemap_invalidate_trylock_shared(struct address_space *mapping);
struct folio *cairnfs_helper_filemap_get_folio(struct address_space *mapping, loff_t position);
void cairnfs_helper_folio_put(struct folio *folio);
struct folio *cairnfs_helper_page_folio(struct page *page);
void cairnfs_helper_folio_lock(struct folio *folio);
void cairnfs_helper_folio_unlock(struct folio *folio);
loff_t cairnfs_helper_folio_pos(struct folio *folio);
size_t cairnfs_helper_folio_size(struct folio *folio);
void cairnfs_helper_folio_zero_segment(struct folio *folio, size_t from, size_t to);
bool cairnfs_helper_folio_is_dirty(struct folio *folio);
ssize_t cairnfs_helper_folio_mkwrite_check_truncate(struct folio *folio, struct inode *inode);
vm_fault_t cairnfs_helper_vmf_fs_error(int error);
void cairnfs_helper_sb_start_pagefault(struct super_block *super_block);
void cairnfs_helper_sb_end_pagefault(struct super_block *super_block);
bool cairnfs_helper_sync_inodes_trylock(struct super_block *super_block);

struct workqueue_struct *cairnfs_helper_alloc_workqueue(const char *prefix, const char *name);
void cairnfs_helper_init_work(struct work_struct *work, void (*function)(struct work_struct *work));
void cairnfs_helper_queue_work(struct workqueue_struct *queue, struct work_struct *work);
void cairnfs_helper_cond_resched(void);
void cairnfs_helper_init_list_head(struct list_head *head);
void cairnfs_helper_list_add(struct list_head *node, struct list_head *head);
void cairnfs_helper_list_del_init(struct list_head *node);

void cairnfs_helper_file_accessed(struct file *file);
ssize_t cairnfs_helper_generic_write_sync(struct kiocb *control, ssize_t written);
unsigned long cairnfs_helper_get_unmapped_area(struct file *file, unsigned long address, unsigned long bytes,
					       unsigned long page_offset, unsigned long flags);
bool cairnfs_helper_dir_emit_dots(struct file *file, struct dir_context *context);
long cairnfs_helper_compat_ptr_ioctl(struct file *file, unsigned int command, unsigned long argument);
int cairnfs_helper_kobject_init_and_add(struct kobject *object, const struct kobj_type *type, struct kobject *parent,
					const char *name);
void cairnfs_helper_set_delayed_kfree(struct delayed_call *call, void *memory);

#endif

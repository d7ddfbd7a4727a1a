/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Inline functions and macros of the kernel, as functions that Rust can call.
 */
#ifndef CAIRNFS_HELPERS_H
#define CAIRNFS_HELPERS_H

#include <linux/bio.h>
#include <linux/fs.h>
#include <linux/types.h>

u64 cairnfs_helper_ktime_get_real_ns(void);
bool cairnfs_helper_ratelimit(void);

unsigned int cairnfs_helper_memalloc_nofs_save(void);
void cairnfs_helper_memalloc_nofs_restore(unsigned int flags);
struct kmem_cache *cairnfs_helper_inode_cache_create(const char *name, unsigned int size, void (*constructor)(void *));
void *cairnfs_helper_alloc_inode_sb(struct super_block *super_block, struct kmem_cache *cache);

void cairnfs_helper_super_set_uuid(struct super_block *super_block, const u8 *uuid);
u64 cairnfs_helper_bdev_nr_bytes(struct block_device *device);
bool cairnfs_helper_bdev_read_only(struct block_device *device);
struct block_device *cairnfs_helper_file_bdev(struct file *file);
void cairnfs_helper_get_file(struct file *file);
struct bio *cairnfs_helper_bio_alloc(struct block_device *device, unsigned short pages, blk_opf_t operation);
struct page *cairnfs_helper_address_to_page(const void *address);

void cairnfs_helper_i_uid_write(struct inode *inode, u32 uid);
void cairnfs_helper_i_gid_write(struct inode *inode, u32 gid);
void cairnfs_helper_i_size_write(struct inode *inode, loff_t bytes);
void cairnfs_helper_inode_set_atime(struct inode *inode, time64_t seconds, long nanoseconds);
void cairnfs_helper_inode_set_mtime(struct inode *inode, time64_t seconds, long nanoseconds);
void cairnfs_helper_inode_set_ctime(struct inode *inode, time64_t seconds, long nanoseconds);
dev_t cairnfs_helper_new_decode_dev(u32 device);
void cairnfs_helper_mapping_set_large_folios(struct address_space *mapping);
void cairnfs_helper_mapping_clear_gfp_fs(struct address_space *mapping);

bool cairnfs_helper_dir_emit_dots(struct file *file, struct dir_context *context);
void cairnfs_helper_set_delayed_kfree(struct delayed_call *call, void *memory);

#endif

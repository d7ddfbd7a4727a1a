// SPDX-License-Identifier: GPL-2.0
/*
 * The bodies of helpers.h: one call each, nothing decided here.
 */
#include <linux/blkdev.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/ratelimit.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "helpers.h"

u64 cairnfs_helper_ktime_get_real_ns(void)
{
	return ktime_get_real_ns();
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

struct kmem_cache *cairnfs_helper_inode_cache_create(const char *name, unsigned int size, void (*constructor)(void *))
{
	return kmem_cache_create(name, size, 0, SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, constructor);
}

void *cairnfs_helper_alloc_inode_sb(struct super_block *super_block, struct kmem_cache *cache)
{
	return alloc_inode_sb(super_block, cache, GFP_KERNEL);
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

struct bio *cairnfs_helper_bio_alloc(struct block_device *device, unsigned short pages, blk_opf_t operation)
{
	return bio_alloc(device, pages, operation, GFP_NOFS);
}

struct page *cairnfs_helper_address_to_page(const void *address)
{
	if (is_vmalloc_addr(address))
		return vmalloc_to_page(address);
	return virt_addr_valid(address) ? virt_to_page(address) : NULL;
}

void cairnfs_helper_i_uid_write(struct inode *inode, u32 uid)
{
	i_uid_write(inode, uid);
}

void cairnfs_helper_i_gid_write(struct inode *inode, u32 gid)
{
	i_gid_write(inode, gid);
}

void cairnfs_helper_i_size_write(struct inode *inode, loff_t bytes)
{
	i_size_write(inode, bytes);
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

dev_t cairnfs_helper_new_decode_dev(u32 device)
{
	return new_decode_dev(device);
}

void cairnfs_helper_mapping_set_large_folios(struct address_space *mapping)
{
	mapping_set_large_folios(mapping);
}

void cairnfs_helper_mapping_clear_gfp_fs(struct address_space *mapping)
{
	mapping_set_gfp_mask(mapping, mapping_gfp_constraint(mapping, ~__GFP_FS));
}

bool cairnfs_helper_dir_emit_dots(struct file *file, struct dir_context *context)
{
	return dir_emit_dots(file, context);
}

void cairnfs_helper_set_delayed_kfree(struct delayed_call *call, void *memory)
{
	set_delayed_call(call, kfree_link, memory);
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The C interfaces that rust/linux wraps: bindgen makes rust/bindings of what these headers declare.
 * Inline functions and macros are not declarations; helpers.h gives them a function each. Constants that bindgen cannot
 * compute from their macros are given a name here.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/capability.h>
#include <linux/crc32c.h>
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/iomap.h>
#include <linux/module.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/stat.h>
#include <linux/statfs.h>
#include <linux/string.h>
#include <linux/xattr.h>

#include "../linux/helpers.h"

static const unsigned int CAIRNFS_GFP_KERNEL = (unsigned int)GFP_KERNEL;
static const unsigned int CAIRNFS_GFP_NOFS = (unsigned int)GFP_NOFS;
static const unsigned int CAIRNFS_SB_RDONLY = SB_RDONLY;
static const unsigned int CAIRNFS_I_NEW = I_NEW;
static const unsigned int CAIRNFS_REQ_READ = (unsigned int)(REQ_OP_READ | REQ_META | REQ_SYNC);
static const unsigned int CAIRNFS_REQ_WRITE = (unsigned int)(REQ_OP_WRITE | REQ_META | REQ_SYNC);
static const unsigned int CAIRNFS_REQ_WRITE_FUA = (unsigned int)(REQ_OP_WRITE | REQ_META | REQ_SYNC | REQ_FUA);

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The C interfaces that rust/linux wraps: bindgen makes rust/bindings of what these headers declare.
 * Inline functions and macros are not declarations; helpers.h gives them a function each. Constants that bindgen cannot
 * compute from their macros are given a name here.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/capability.h>
#include <linux/completion.h>
#include <linux/crc32c.h>
#include <linux/dcache.h>
#include <linux/errseq.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/iomap.h>
#include <linux/kobject.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mm.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/rwsem.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/stat.h>
#include <linux/statfs.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/uio.h>
#include <linux/workqueue.h>
#include <linux/writeback.h>
#include <linux/xattr.h>

#include "../linux/helpers.h"

static const unsigned int CAIRNFS_GFP_KERNEL = (unsigned int)GFP_KERNEL;
static const unsigned int CAIRNFS_GFP_NOFS = (unsigned int)GFP_NOFS;
static const unsigned int CAIRNFS_SB_RDONLY = SB_RDONLY;
static const unsigned int CAIRNFS_SB_NOSEC = SB_NOSEC;
static const unsigned int CAIRNFS_SB_LAZYTIME = SB_LAZYTIME;
static const unsigned int CAIRNFS_SB_POSIXACL = SB_POSIXACL;
static const unsigned int CAIRNFS_SB_I_VERSION = SB_I_VERSION;
static const unsigned int CAIRNFS_I_NEW = I_NEW;
static const unsigned int CAIRNFS_REQ_OP_MASK = (unsigned int)REQ_OP_MASK;
static const unsigned int CAIRNFS_REQ_OP_READ = (unsigned int)REQ_OP_READ;
static const unsigned int CAIRNFS_REQ_READ = (unsigned int)(REQ_OP_READ | REQ_META | REQ_SYNC);
/* REQ_SYNC and REQ_IDLE together: what others wait for is not held back by writeback throttling. */
static const unsigned int CAIRNFS_REQ_WRITE =
	(unsigned int)(REQ_OP_WRITE | REQ_META | REQ_PRIO | REQ_SYNC | REQ_IDLE);
static const unsigned int CAIRNFS_REQ_PREFLUSH = (unsigned int)REQ_PREFLUSH;
static const unsigned int CAIRNFS_REQ_FUA = (unsigned int)REQ_FUA;
static const unsigned int CAIRNFS_FMODE_WRITE = (unsigned int)FMODE_WRITE;
static const unsigned int CAIRNFS_IOMAP_F_NEW = IOMAP_F_NEW;
static const unsigned int CAIRNFS_IOMAP_F_DIRTY = IOMAP_F_DIRTY;
static const unsigned int CAIRNFS_VM_FAULT_LOCKED = VM_FAULT_LOCKED;
static const unsigned int CAIRNFS_VM_FAULT_NOPAGE = VM_FAULT_NOPAGE;
/* Pages that one entry of the table above may map at once. */
static const unsigned long CAIRNFS_PTRS_PER_PTE = PTRS_PER_PTE;

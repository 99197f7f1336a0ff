/*
 * capture.h - how a point in time of a domain is taken.  Each method is one file, capture_*.c.
 *
 * Calling sequence:  begin -> (open -> ... -> source_close)* -> settled -> end
 * end is called whatever failed before.
 */
#ifndef OVB_CAPTURE_H
#define OVB_CAPTURE_H

#include "chain.h"
#include "checkpoint.h"
#include "guest.h"
#include "moment.h"
#include "source.h"

struct capture_ops;
struct qemu_nbd;
struct scratch_watch;

struct capture {
	const struct capture_ops *ops;
	struct guest		*guest;
	struct moment		 moment;
	bool			 failed;	/* reading did */
	struct qemu_nbd		**servers;	/* by disk; NULL: none was started */
	struct scratch_watch	*watch;		/* of the backup job's scratch files */
	const struct chain	*chain;		/* the point that this one goes on from */
	char			 checkpoint[CHECKPOINT_NAME_LEN];	/* made at this moment; empty: none */
	bool			*since;		/* by disk: what changed since the chain's checkpoint can be told; NULL: of none */
	char			 why_read[512];	/* of those that are left it cannot be told, though there is such a checkpoint; empty otherwise */
	char			 why_none[512];	/* there should be a new one, and is none; empty otherwise */
	bool			 lost;		/* libvirt has no record of that checkpoint */
	struct timespec		*mtimes;	/* of offline images, by disk, before they were read */
};

struct capture_ops {
	const char	*name;

	/** Take the moment. */
	int	(*begin)(struct capture *, struct err *);

	/** The disk number ${i} of the guest as it was at that moment. */
	struct source *(*open)(struct capture *, size_t i, struct err *);

	/** After all was read, or reading failed.  Fails: -1 when what was read may not be that moment, and says why. */
	int	(*settled)(struct capture *, struct err *);

	/** Leave the guest as it was.  Fails: -1; the journal says what is left to do. */
	int	(*end)(struct capture *, struct err *);
};

extern const struct capture_ops capture_backup, capture_snapshot, capture_offline;

/**
 * capture_folder(c, parent, field, err):
 * Make a folder below ${parent}, which the guest's QEMU can write to, and nobody else; its path is put into the journal's ${field} first.
 * Fails: -1.
 */
int capture_folder(struct capture *c, const char *parent, char **field, struct err *err);

/** capture_scratch(g): The folder that the job has for scratch files. */
char *capture_scratch(const struct guest *g, struct err *err);

/**
 * capture_image(c, i, path, err):
 * Disk ${i}'s image at ${path} (NULL: where the domain has it), which nobody writes to: read directly when it is raw in a file or a block device,
 * else through a qemu-nbd, which capture_stop_servers() ends.  Fails: NULL.
 */
struct source *capture_image(struct capture *c, size_t i, const char *path, struct err *err);
void capture_stop_servers(struct capture *c);

/** capture_expects(c, i): Whether disk ${i} was there at the chain's checkpoint, so that it should tell what of it has changed. */
bool capture_expects(const struct capture *c, size_t i);

/**
 * capture_trusts(c, i):
 * Whether the disk is the same image still, so that it may: else c->why_read says what it was.  A bitmap of the checkpoint's name may be another disk's.
 * Nor may it when the checkpoint is an earlier point's, and that point is not to be had any more.
 */
bool capture_trusts(struct capture *c, size_t i);

/**
 * capture_targets(c, n, err):
 * The names of the disks that it should tell it of; *${n} of them, in an array for free().  Fails: NULL.
 */
const char **capture_targets(const struct capture *c, size_t *n, struct err *err);

/** capture_explain(c, i, s): Let the source ${s} of disk ${i} say why it does not tell what has changed, if it should. */
void capture_explain(const struct capture *c, size_t i, struct source *s);

#endif

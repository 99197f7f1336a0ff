/*
 * verify.h - what virt-restore and virt-backupctl check of a point alike: its files by their SHA-256, and its small members.
 * The blocks of its archive are extract.h's.
 */
#ifndef OVB_VERIFY_H
#define OVB_VERIFY_H

#include "archive/archive_reader.h"

struct verify_ops {
	/** begin(arg, what, total): ${total} bytes of ${what} are checked next. */
	void	(*begin)(void *arg, const char *what, uint64_t total);

	/** progress(arg, done, err): ${done} bytes of them are.  Fails: -1 ends it all. */
	int	(*progress)(void *arg, uint64_t done, struct err *err);

	/** damage(arg, file, why): The file ${file} of the point, or the small member when it is none of them, is damaged or lost. */
	void	(*damage)(void *arg, const char *file, const struct err *why);
};

/**
 * verify_sums(r, p, m, archive, ops, arg, err):
 * Check the files of the point ${p}, listed or not, against SHA256SUMS; the archive only when ${archive}.  ${m} is its manifest.
 * Fails: -1, only when ops->progress did; all else is a damage.
 */
int verify_sums(struct repo *r, const struct point *p, const struct manifest *m, bool archive, const struct verify_ops *ops, void *arg,
    struct err *err);

/** verify_members(ar, ops, arg, err): Check the archive's small members.  Fails: likewise. */
int verify_members(struct archive_reader *ar, const struct verify_ops *ops, void *arg, struct err *err);

#endif

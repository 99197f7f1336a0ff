/*
 * replica_send.h - one restore point of one repository becomes one of another: the same bytes, checked as they are read and again where they arrived.
 *
 * Calling sequence:  replica_send_copy -> (the archives that it needs are there) -> replica_send_publish -> replica_send_end
 * What was begun and not published leaves nothing, but for what has arrived of a large archive: the next one goes on with that (FORMAT.md, "Replicas").
 * Threads: each link and each send is of one thread at a time; links share nothing but their lock.
 */
#ifndef OVB_REPLICA_SEND_H
#define OVB_REPLICA_SEND_H

#include <stdatomic.h>

#include "repository/catalog.h"

#define REPLICA_RESUME_LEAST	((uint64_t)8 << 20)	/* bytes of an archive: less than that is sooner sent again than looked at */

/* Two repositories, open. */
struct replica_link {
	struct repo			*from, *to;
	struct lock			*lk;		/* on ->to */
	const char			*job;		/* which brings the points */
	const struct buf		*parts;		/* names in .replicas of ->to when it began, each with its zero byte */
	unsigned int			 read_back;	/* per cent of an archive that is read back where the far end computes no SHA-256 */
	const atomic_int	*stop;
	void				(*tick)(void *arg, uint64_t more);	/* so many more bytes are there */
	void				*arg;
};

/* What is known of the far end, which spares asking. */
struct replica_hint {
	bool	has_machine;		/* the machine has points there */
	bool	has_name;		/* the point's name is taken there, or may be */
};

struct replica_send;

/**
 * replica_send_copy(ln, p, as_pruned, hint, err):
 * Copy the point ${p} of ln->from: all its files, durable, under a name that no reader sees.  With ${as_pruned}, as one that is not listed there: only its
 * archive is wanted.
 *
 * Fails: NULL; err->code is ESTALE when the point is gone at the source, or no longer what it was when it was looked at; EBADMSG when it is damaged there;
 * EINTR when *ln->stop is set; anything else: one of the two cannot be used just now.
 */
struct replica_send *replica_send_copy(const struct replica_link *ln, const struct point *p, bool as_pruned, const struct replica_hint *hint, struct err *err);

/**
 * replica_send_check(s, h, lacking, err):
 * Whether every block that the point needs of other archives is in those that ->to has, which ${h} tells: 0.  They may have been packed there, when nothing
 * used it: 1, the archive that has too little is ${lacking}, and ${err} says what is missing.  Fails: -1.
 */
struct replica_holders;
int replica_send_check(const struct replica_send *s, const struct replica_holders *h, archive_id lacking, struct err *err);

/** replica_send_publish(s, err): Give it its name: the one that it has at the source, or if that is taken, the next suffix that is free.  Fails: -1. */
int replica_send_publish(struct replica_send *s, struct err *err);

/** replica_send_manifest(s), replica_send_here(s): Its manifest, and once it is published, its folder's name. */
const struct manifest *replica_send_manifest(const struct replica_send *s);
const char *replica_send_here(const struct replica_send *s);

/** replica_send_resumed(s): How many bytes of its archive had arrived before. */
uint64_t replica_send_resumed(const struct replica_send *s);

/** replica_send_end(s): Harmless on NULL. */
void replica_send_end(struct replica_send *s);

#endif

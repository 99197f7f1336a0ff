/*
 * manifest.h - manifest.json: what a restore point is, for people and programs (FORMAT.md).
 */
#ifndef OVB_MANIFEST_H
#define OVB_MANIFEST_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"

#define MANIFEST_NAME	"manifest.json"
#define PRUNED_NAME	"pruned.json"
#define PROTECTED_NAME	"protected"
#define MANIFEST_MAX	((size_t)16 << 20)	/* bytes */
#define UUID_LEN	37u			/* with the zero byte */

struct manifest_disk {
	const char	*target, *member, *source, *format;
	uint64_t	 size;			/* virtual, bytes */
	uint64_t	 provisioned;		/* allocated in the source */
	uint64_t	 read;			/* bytes read from the source to store it */
	uint64_t	 data;			/* bytes in the tar stream */
	uint64_t	 zero;			/* of these, in zero blocks */
	const char	*how;			/* full, compared, bitmap, unchanged: what was read, and why; NULL: not told (full) */
	const char	*why;			/* it is full, or compared, though something told of less; NULL: nothing did */
	const char	*identity;		/* of the source and its extents; NULL: not known */
};

struct manifest_member {
	const char	*name;
	uint64_t	 size;			/* bytes */
};

struct manifest_archive {
	const char	*id, *file, *codec, *sha256;
	int		 level;
	uint64_t	 size, raw;
};

struct manifest {
	const char		*vm, *kind, *consistency, *capture, *job, *host, *program;
	const char		*uuid;			/* of the domain; NULL: it is none */
	const char		*checkpoint;		/* libvirt's, of that moment or of an earlier point's; NULL: none */
	int64_t			 freeze_ms;		/* how long the guest's file systems were frozen; -1: they were not */
	time_t			 time, finished;
	const char		**notes;
	size_t			 nnotes;
	struct manifest_disk	*disks;
	size_t			 ndisks;
	struct manifest_member	*members;	/* small members of the archive, may be none */
	size_t			 nmembers;
	struct manifest_archive	 archive;
	uint64_t		 stored;
	const char		**references;
	size_t			 nreferences;
	const char		**replaces;		/* ids of the archives that this one replaces, may be none */
	size_t			 nreplaces;
	void			*json;		/* owns the strings of a manifest that was read */
};

#define MANIFEST_INIT	{ .freeze_ms = -1 }

/** manifest_encode(m, out, err): Append ${m} as JSON.  Fails: -1. */
int manifest_encode(const struct manifest *m, struct buf *out, struct err *err);

/** manifest_decode(m, text, len, err): Read ${m}, which the caller frees.  Fails: -1 with what is wrong in it. */
int manifest_decode(struct manifest *m, const char *text, size_t len, struct err *err);

/** manifest_free(m): Free what manifest_decode() made; harmless on an empty one. */
void manifest_free(struct manifest *m);

/** uuid_random(id, err): 16 random bytes that are a UUID of version 4 (RFC 4122).  Fails: -1. */
int uuid_random(uint8_t id[16], struct err *err);

/** uuid_text(id, out): 16 bytes as a UUID.  uuid_parse(text, id): The reverse; -1 when it is none. */
void uuid_text(const uint8_t id[16], char out[UUID_LEN]);
int uuid_parse(const char *text, uint8_t id[16]);

#endif

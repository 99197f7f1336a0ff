/*
 * archive_reader.h - opens an archive with its index: that of a point, or a bare file with the index inside it.
 */
#ifndef OVB_ARCHIVE_READER_H
#define OVB_ARCHIVE_READER_H

#include "archive/index_reader.h"
#include "repository/repo.h"
#include "store/store.h"

struct archive_reader {
	char			*name;		/* for messages */
	char			*note;		/* NULL, or what of it was lost, and what was used instead */
	struct store_file	*data;
	struct index_reader	*ix;
};

/**
 * archive_open_point(r, p, m, err):
 * The archive of the point ${p} with the manifest ${m}, or NULL when that is lost.  Its index is index.bin; when that is lost, damaged or
 * another archive's, the index inside the archive; when that is lost too, what the archive's headers and maps say.  The reader's note tells.
 * When the point was consolidated since ${m} was read, its new archive.
 * Fails: NULL.
 */
struct archive_reader *archive_open_point(struct repo *r, const struct point *p, const struct manifest *m, struct err *err);

/** archive_open_bare(path, err): The archive file ${path}, by the index inside it, or else by its headers and maps.  Fails: NULL. */
struct archive_reader *archive_open_bare(const char *path, struct err *err);

void archive_close(struct archive_reader *ar);

/** archive_is_whole(ar): Whether the file is as long as the frames that its index lists. */
bool archive_is_whole(const struct archive_reader *ar);

/*
 * The archives that a restore needs: the one of its point, and those that the point's index names, opened when they are first
 * asked for.  Threads: any, for archive_set_first() and archive_set_find().
 */
struct archive_set;

/** archive_set_new(r, first, folder, err): ${first} is taken over, also on failure; ${r} is NULL for a bare archive.  Fails: NULL. */
struct archive_set *archive_set_new(struct repo *r, struct archive_reader *first, const char *folder, struct err *err);
void archive_set_free(struct archive_set *set);
struct archive_reader *archive_set_first(const struct archive_set *set);

/**
 * archive_set_open(r, p, m, err):
 * The set of the point ${p} with the manifest ${m}, or NULL when that is lost, for a long read: all the archives that it names are opened now, so that no
 * prune, consolidation or repack can take anything from under it.  What cannot be opened is found out again, and told, where it is needed.  Fails: NULL.
 */
struct archive_set *archive_set_open(struct repo *r, const struct point *p, const struct manifest *m, struct err *err);

/**
 * archive_set_add(set, holders, err):
 * Open the archives of the points ${holders} in the repository: they are all of which any stands for one that the set's point names, so that none needs to be
 * looked for, unless one of them cannot be opened.  Fails: -1.
 */
int archive_set_add(struct archive_set *set, const struct points *holders, struct err *err);

/**
 * archive_set_find(set, s, source, err):
 * The archive that holds blocks of ${s}; *${source} is the number under which it does.  It belongs to the set.  Fails: NULL.
 */
struct archive_reader *archive_set_find(struct archive_set *set, const struct index_source *s, uint32_t *source, struct err *err);

#endif

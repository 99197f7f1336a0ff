/*
 * damage_map.h - what is damaged in which archive, and which restore points that breaks.
 *
 * Calling sequence:  damage_map_new -> damage_map_blocks, damage_map_archive, damage_map_point -> damage_map_breaks for each point -> damage_map_free
 */
#ifndef OVB_DAMAGE_MAP_H
#define OVB_DAMAGE_MAP_H

#include "base/err.h"
#include "repository/catalog.h"

struct damage_map;

/** damage_map_new(c, err): For the archives of ${c}, which must stay.  Fails: NULL. */
struct damage_map *damage_map_new(const struct catalog *c, struct err *err);
void damage_map_free(struct damage_map *d);

/**
 * damage_map_blocks(d, entry, s, offset, length, err):
 * In the archive of the catalog's entry ${entry}, these bytes of the source ${s} are damaged.  Of very many places not each is remembered: then
 * all between them count as damaged too.  Fails: -1.
 */
int damage_map_blocks(struct damage_map *d, size_t entry, const struct index_source *s, uint64_t offset, uint64_t length, struct err *err);

/** damage_map_archive(d, entry): All of that archive is lost. */
void damage_map_archive(struct damage_map *d, size_t entry);

/** damage_map_point(d, entry): Something that only that point itself needs is. */
void damage_map_point(struct damage_map *d, size_t entry);

/**
 * damage_map_breaks(d, r, point, why, err):
 * Whether the listed entry ${point} needs something that is damaged, or nowhere in the repository: 1, and ${why} says what, or 0.  Only points
 * that use a damaged archive, or one that stands for others, are opened.  Fails: -1.
 */
int damage_map_breaks(struct damage_map *d, struct repo *r, size_t point, struct err *why, struct err *err);

#endif

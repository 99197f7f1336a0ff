/* repo_named.h - the repository that a command line means. */
#ifndef OVB_REPO_NAMED_H
#define OVB_REPO_NAMED_H

#include "config/conf.h"
#include "repository/repo.h"

/**
 * repo_open_named(config, name, err):
 * Open the repository ${name} to read: a URL or a folder where it holds a slash, else the name of one in the configuration file ${config}, which
 * is read only then; the first one there when ${name} is NULL.  Fails: NULL.
 */
struct repo *repo_open_named(const char *config, const char *name, struct err *err);

/** repo_open_configured(r, make, err): Open the configured repository ${r}, wherever it is (repo_open).  Fails: NULL. */
struct repo *repo_open_configured(const struct conf_repository *r, bool make, struct err *err);

#endif

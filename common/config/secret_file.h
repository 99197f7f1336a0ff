/*
 * secret_file.h - files that hold a secret must not be open to others.
 */
#ifndef OVB_SECRET_FILE_H
#define OVB_SECRET_FILE_H

#include <sys/stat.h>

#include "base/err.h"

/**
 * secret_file_check(st, path, what, err):
 * Whether nobody else can read, or replace the content of, the file ${path} that holds ${what} ("the passphrase"); ${st} is of fstat(2).  Of our own file
 * neither group nor others may have any right, as ssh(1) has it; of somebody else's, which we are let at through its group, others may have none.
 *
 * Fails:   -1 with EACCES, saying what to do.
 * Threads: any.
 */
int secret_file_check(const struct stat *st, const char *path, const char *what, struct err *err);

#endif

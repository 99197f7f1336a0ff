/* thread.h - a library's own threads. */
#ifndef OVB_THREAD_H
#define OVB_THREAD_H

#include <pthread.h>

#include "base/err.h"

/** thread_start(t, fn, arg, err): Like pthread_create(3).  The thread gets no signals: those are for the program's own threads.  Fails: -1. */
int thread_start(pthread_t *t, void *(*fn)(void *), void *arg, struct err *err);

#endif

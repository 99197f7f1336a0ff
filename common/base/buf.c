#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int
buf_reserve(struct buf *b, size_t more, struct err *err)
{
	size_t cap;
	char *p;

	if (more > SIZE_MAX / 2 - b->len - 1)
		return (err_nomem(err));
	if (b->len + more + 1 <= b->cap)
		return (0);
	cap = b->cap < 64 ? 64 : b->cap;
	while (cap < b->len + more + 1)
		cap *= 2;
	if ((p = realloc(b->ptr, cap)) == NULL)
		return (err_nomem(err));
	b->ptr = p;
	b->cap = cap;
	return (0);
}

int
buf_add(struct buf *b, const void *p, size_t n, struct err *err)
{
	if (buf_reserve(b, n, err) == -1)
		return (-1);
	if (n > 0)
		memcpy(b->ptr + b->len, p, n);
	b->len += n;
	b->ptr[b->len] = '\0';
	return (0);
}

int
buf_addf(struct buf *b, struct err *err, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || buf_reserve(b, (size_t)n, err) == -1)
		return (n < 0 ? err_nomem(err) : -1);
	va_start(ap, fmt);
	vsnprintf(b->ptr + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
	return (0);
}

void
buf_reset(struct buf *b)
{
	b->len = 0;
	if (b->ptr != NULL)
		b->ptr[0] = '\0';
}

void
buf_free(struct buf *b)
{
	free(b->ptr);
	*b = (struct buf)BUF_INIT;
}

#include "repository/low_space.h"

#include <stdlib.h>
#include <string.h>

#define PERCENT_MAX	90u

int
low_space_parse(const char *text, struct low_space *out, struct err *err)
{
	static const char units[] = "KMGT";
	size_t digits = strspn(text, "0123456789");
	const char *unit = text + digits, *u;
	uint64_t n = strtoull(text, NULL, 10);
	unsigned int shift = 0;

	if (digits < 1 || digits > 12)
		goto bad;
	if (strcmp(unit, "%") == 0) {
		if (n > PERCENT_MAX)
			goto bad;
		*out = (struct low_space){ (unsigned int)n, 0 };
		return (0);
	}
	if (*unit != '\0') {
		if ((u = strchr(units, *unit)) == NULL || unit[1] != '\0')
			goto bad;
		shift = 10 * (unsigned int)(u - units + 1);
	}
	if (n > (uint64_t)INT64_MAX >> shift)
		goto bad;
	*out = (struct low_space){ 0, n << shift };
	return (0);
bad:
	return (err_set(err, 0, "\"%.40s\": expected a share up to %u%% like \"10%%\", or a size like \"500G\"", text, PERCENT_MAX));
}

bool
low_space_is(const struct low_space *l, bool was, uint64_t free, uint64_t total)
{
	uint64_t limit = l->percent > 0 ? total / 100 * l->percent : l->bytes;

	return (was ? free < limit + limit / 10 : free < limit);
}

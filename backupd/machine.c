#include "machine.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#define WILD	"*?[]\\"

size_t
machine_stem(const char *file)
{
	const char *dot = strrchr(file, '.');

	return (dot == NULL || dot == file || dot[1] == '\0' ? strlen(file) : (size_t)(dot - file));
}

static bool
matches_any(const struct conf_strings *patterns, const char *name)
{
	for (size_t i = 0; i < patterns->n; i++)
		if (fnmatch(patterns->v[i], name, 0) == 0)
			return (true);
	return (false);
}

/* Whether the path, or pattern of paths, can be that of an image of the machine ${name}.  When in doubt, it can. */
static bool
image_possible(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/'), *file = slash != NULL ? slash + 1 : path;
	size_t n = machine_stem(file);
	char *stem;
	bool can;

	if (file[strcspn(file, WILD)] == '\0')
		return (strlen(name) == n && memcmp(file, name, n) == 0);
	/* The ending must be one by itself, or what stands before it is no whole pattern. */
	if (file[n] == '\0' || file[n + strcspn(file + n, WILD)] != '\0' || file[n - 1] == '\\' || (stem = strndup(file, n)) == NULL)
		return (true);
	can = fnmatch(stem, name, 0) == 0;
	free(stem);
	return (can);
}

bool
machine_possible(const struct conf_job *job, const char *name)
{
	switch (job->source) {
	case CONF_SOURCE_DOMAINS:
		return (matches_any(&job->domains, name) && !matches_any(&job->exclude, name));
	case CONF_SOURCE_IMAGES:
		for (size_t i = 0; i < job->images.n; i++)
			if (image_possible(job->images.v[i], name))
				return (true);
		return (false);
	case CONF_SOURCE_FROM:
	default:
		return (true);
	}
}

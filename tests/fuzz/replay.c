/* Runs a fuzz target over the corpus of the same name, as a TAP test: tests/fuzz/corpus/NAME for fuzz_NAME. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
replay(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data;
	size_t n;

	if (f == NULL || (data = malloc(1 << 20)) == NULL) {
		printf("Bail out! cannot read %s\n", path);
		exit(1);
	}
	n = fread(data, 1, 1 << 20, f);
	fclose(f);
	LLVMFuzzerTestOneInput(data, n);
	free(data);
	return (0);
}

int
main(int argc, char **argv)
{
	char dir[4096], path[8192], *slash, *dot;
	struct dirent *de;
	int n = 0;
	DIR *d;

	slash = strrchr(argv[0], '/');
	snprintf(dir, sizeof(dir), "tests/fuzz/corpus/%s", argc > 1 ? argv[1] : (slash ? slash + 1 : argv[0]) + strlen("fuzz_"));
	if ((dot = strstr(dir, ".replay")) != NULL)
		*dot = '\0';
	if ((d = opendir(dir)) == NULL) {
		printf("Bail out! no corpus in %s (run this from the top of the tree)\n", dir);
		return (1);
	}
	while ((de = readdir(d)) != NULL) {
		if (de->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, de->d_name);
		replay(path);
		printf("ok %d - %s\n", ++n, de->d_name);
	}
	closedir(d);
	printf("1..%d\n", n);
	return (n == 0);
}

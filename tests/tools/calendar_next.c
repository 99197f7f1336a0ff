/*
 * What calendar.c says of calendar events, for tests/scenario/calendar.t.
 *
 * usage: calendar_next BASE COUNT <EVENTS
 * For each line: its text in full, a tab and the COUNT times that follow BASE, in seconds since 1970; or "error: " and why.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calendar/calendar.h"

int
main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	if (argc != 3)
		return (2);
	while ((n = getline(&line, &cap, stdin)) > 0) {
		time_t t = strtoll(argv[1], NULL, 10);
		struct calendar *c;

		line[strcspn(line, "\n")] = '\0';
		if ((c = calendar_parse(line, &err)) == NULL) {
			printf("error: %s\n", err.text);
			continue;
		}
		printf("%s\t", calendar_text(c));
		for (int i = 0; i < atoi(argv[2]) && calendar_next(c, t, &t); i++)
			printf(" %lld", (long long)t);
		printf("\n");
		calendar_free(c);
	}
	free(line);
	return (0);
}

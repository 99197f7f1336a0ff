/* virt-backupctl verify: is all of the repository there, and as it was stored? */
#include "options.h"
int
command_verify(const struct options *o)
{
	(void)o;
	return (EXIT_FAILED);
}

/* SPDX-License-Identifier: GPL-2.0 */
#include "loading.h"

int broken(u64 *ctx)
{
	return undeclared;
}

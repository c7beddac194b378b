/* SPDX-License-Identifier: GPL-2.0 */
/* BCC's helpers.h includes this and uses nothing of it. */

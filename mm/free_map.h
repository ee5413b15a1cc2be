/* SPDX-License-Identifier: MIT */
/*
 * Which pages of one zone are free. Pages are counted from an address that is aligned to 2 MiB, in
 * blocks of 512:
 *
 *   pages:   a bit a page, 8 words a block
 *   counts:  free pages of each block
 *   whole:   a bit a block: all of it is free
 *   broken:  a bit a block: some of it is free
 *
 * A bit of level n + 1 of `whole` and `broken` says that a word of level n is not 0; the top level
 * is one word, so that the lowest one is found in as many steps as there are levels. Single pages
 * come from broken blocks first: whole ones are kept for those who want 2 MiB.
 */
#ifndef MM_FREE_MAP_H
#define MM_FREE_MAP_H

#include "boot/types.h"

#define BLOCK_PAGES 512
#define BLOCK_WORDS (BLOCK_PAGES / 64)
/* 64^4 blocks of 2 MiB are more than a processor can address. */
#define BLOCK_LEVELS_MAX 4

struct block_set {
    u64 *levels[BLOCK_LEVELS_MAX];
    u32 level_count;
};

struct free_map {
    u64 *pages;
    u16 *counts;
    struct block_set whole, broken;
};

/* Bytes that the map of so many blocks takes. */
u64 free_map_bytes(u64 blocks);
/* Lays it out in zeroed memory: no page is free. */
void free_map_init(struct free_map *map, u64 blocks, void *memory);

static inline bool free_map_test(const struct free_map *map, u64 page)
{
    return map->pages[page / 64] >> (page % 64) & 1;
}

/* Pages become free; none of them is so already (the caller knows). */
void free_map_set(struct free_map *map, u64 page, u64 count);
/* A page is taken, or all of a block; it was free. */
void free_map_clear(struct free_map *map, u64 page);
void free_map_clear_block(struct free_map *map, u64 block);

#define FREE_MAP_NONE (~0ull)
/* Of a broken block if there is one; FREE_MAP_NONE: none is free. */
u64 free_map_find_page(const struct free_map *map);
/* The lowest block that is wholly free, or FREE_MAP_NONE. */
u64 free_map_find_block(const struct free_map *map);

#endif

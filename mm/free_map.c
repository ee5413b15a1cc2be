/* SPDX-License-Identifier: MIT */
#include "mm/free_map.h"

#include "boot/assert.h"

#define WORD_BITS 64
#define WORD_SHIFT 6

static u64 block_set_words(u64 blocks)
{
    u64 sum = 0;
    do {
        blocks = (blocks + WORD_BITS - 1) / WORD_BITS;
        sum += blocks;
    } while (blocks > 1);
    return sum;
}

static u64 *block_set_init(struct block_set *set, u64 blocks, u64 *words)
{
    set->level_count = 0;
    do {
        ASSERT(set->level_count < BLOCK_LEVELS_MAX);
        blocks = (blocks + WORD_BITS - 1) / WORD_BITS;
        set->levels[set->level_count++] = words;
        words += blocks;
    } while (blocks > 1);
    return words;
}

static void block_set_add(const struct block_set *set, u64 block)
{
    for (u32 level = 0; level < set->level_count; level++) {
        u64 *word = &set->levels[level][block >> WORD_SHIFT];
        u64 before = *word;
        *word |= 1ull << (block % WORD_BITS);
        if (before)
            return;
        block >>= WORD_SHIFT;
    }
}

static void block_set_drop(const struct block_set *set, u64 block)
{
    for (u32 level = 0; level < set->level_count; level++) {
        u64 *word = &set->levels[level][block >> WORD_SHIFT];
        *word &= ~(1ull << (block % WORD_BITS));
        if (*word)
            return;
        block >>= WORD_SHIFT;
    }
}

static u64 block_set_lowest(const struct block_set *set)
{
    u64 block = 0;
    for (u32 level = set->level_count; level-- > 0;) {
        u64 word = set->levels[level][block];
        if (!word)
            return FREE_MAP_NONE;
        block = block << WORD_SHIFT | (u64)__builtin_ctzll(word);
    }
    return block;
}

u64 free_map_bytes(u64 blocks)
{
    u64 words = blocks * BLOCK_WORDS + 2 * block_set_words(blocks);
    return words * sizeof(u64) + align_up(blocks * sizeof(u16), sizeof(u64));
}

void free_map_init(struct free_map *map, u64 blocks, void *memory)
{
    map->pages = memory;
    u64 *words = block_set_init(&map->whole, blocks, map->pages + blocks * BLOCK_WORDS);
    map->counts = (u16 *)block_set_init(&map->broken, blocks, words);
}

void free_map_set(struct free_map *map, u64 page, u64 count)
{
    u64 part; /* in one word */
    for (; count; page += part, count -= part) {
        u64 block = page / BLOCK_PAGES, first = page % WORD_BITS;
        part = count < WORD_BITS - first ? count : WORD_BITS - first;
        map->pages[page / WORD_BITS] |= ~0ull >> (WORD_BITS - part) << first;
        u64 before = map->counts[block];
        map->counts[block] = (u16)(before + part);
        if (before == 0) {
            block_set_add(&map->broken, block);
        } else if (before + part == BLOCK_PAGES) {
            block_set_drop(&map->broken, block);
            block_set_add(&map->whole, block);
        }
    }
}

void free_map_clear(struct free_map *map, u64 page)
{
    u64 block = page / BLOCK_PAGES;
    map->pages[page / WORD_BITS] &= ~(1ull << (page % WORD_BITS));
    u16 count = --map->counts[block];
    if (count == 0) {
        block_set_drop(&map->broken, block);
    } else if (count == BLOCK_PAGES - 1) {
        block_set_drop(&map->whole, block);
        block_set_add(&map->broken, block);
    }
}

void free_map_clear_block(struct free_map *map, u64 block)
{
    for (u32 i = 0; i < BLOCK_WORDS; i++)
        map->pages[block * BLOCK_WORDS + i] = 0;
    map->counts[block] = 0;
    block_set_drop(&map->whole, block);
}

u64 free_map_find_page(const struct free_map *map)
{
    u64 block = block_set_lowest(&map->broken);
    if (block == FREE_MAP_NONE)
        block = block_set_lowest(&map->whole);
    if (block == FREE_MAP_NONE)
        return FREE_MAP_NONE;
    const u64 *word = &map->pages[block * BLOCK_WORDS];
    while (!*word)
        word++;
    return (u64)(word - map->pages) * WORD_BITS + (u64)__builtin_ctzll(*word);
}

u64 free_map_find_block(const struct free_map *map)
{
    return block_set_lowest(&map->whole);
}

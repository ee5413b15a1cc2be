/* SPDX-License-Identifier: MIT */
/*
 * A Spin model of freeze, external change, publish: two vCPUs that fault on one page below one
 * missing table, one remover, and a module that may say BUSY or refuse at every call. Names are
 * those of the C functions in mm/mirror.c, mirror_change.c and mirror_remove.c. Loops never end, so any state
 * without a step is a deadlock. -D of a mutant's name breaks one rule; -DREACH=n fails where an
 * essential state is reached. tests/model.py runs them all.
 */
#define TABLE 0 /* the slot that gets the table */
#define LEAF  1 /* the slot in that table */
#define NOBODY 0
#define REMOVER 3
#define PAGES 3 /* 0 is no page; one page only would hide reuse */
#ifndef REACH
#define REACH 0
#endif
#define reached(n) assert(REACH != n)

mtype = { absent, present, blocked, free, cached, owned, ok, busy, refused };

mtype slot[2] = absent;
byte frozen_by[2] = NOBODY;
byte slot_page;      /* of the mirror's leaf */
byte tables;         /* mirror tables without the root */
bool linked;         /* external table */
byte external_pages; /* that the module holds as tables */
mtype external_leaf = absent;
byte external_page;
mtype page_state[PAGES] = free;

byte sharers;
bool excluded;
bool tracked; /* since the block */
bool in_guest[3];
bool old_epoch[3]; /* entered before the track */
byte tlb[3];       /* page that the vCPU may still reach */

/* What the module says, tree and entry locks being taken or not. */
inline module_answer(answer) {
    if
    :: answer = ok
    :: answer = busy
    :: answer = refused
    fi
}

inline slot_freeze(index, who, old, won) {
    atomic {
        won = (slot[index] == old && frozen_by[index] == NOBODY);
        if
        :: won -> frozen_by[index] = who
        :: else -> reached(1)
        fi
    }
}

inline slot_publish(index, who, new, page) {
    atomic {
        assert(frozen_by[index] == who);
        if
        :: index == TABLE && new == present -> assert(linked)
        :: index == LEAF && new == present ->
            assert(external_leaf == present && external_page == page)
        :: index == LEAF && new == absent -> assert(external_leaf == absent)
        :: else
        fi;
        slot[index] = new;
        frozen_by[index] = NOBODY;
        if
        :: index == LEAF -> slot_page = page
        :: else
        fi
    }
}

inline table_link(who) {
    slot_freeze(TABLE, who, absent, won);
    if
    :: won ->
#ifdef PUBLISH_EARLY
        slot_publish(TABLE, who, present, 0);
#endif
        atomic {
            module_answer(answer);
            if
            :: answer == ok ->
                assert(!linked);
                linked = true; external_pages++; tables++
            :: else -> reached(2)
            fi
        }
        if
        :: answer == ok -> slot_publish(TABLE, who, present, 0)
        :: else -> slot_publish(TABLE, who, absent, 0)
        fi
    :: else
    fi
}

inline leaf_set(who) {
    slot_freeze(LEAF, who, absent, won);
    if
    :: won ->
        atomic {
            page = 1;
            do
            :: page_state[page] == free -> break
            :: else -> page++
            od;
            page_state[page] = cached
        }
        atomic {
            module_answer(answer);
            if
            :: answer == ok ->
                assert(linked && external_leaf == absent);
                external_leaf = present; external_page = page; page_state[page] = owned
            :: else -> reached(3)
            fi
        }
        if
        :: answer == ok ->
            slot_publish(LEAF, who, present, page);
            reached(4);
#ifdef RETURN_USED
            page_state[page] = free
#endif
        :: else ->
#ifndef NO_RESTORE
            slot_publish(LEAF, who, absent, 0);
#endif
            page_state[page] = free
        fi;
        page = 0
    :: else
    fi
}

/* vcpu_run, and leaf_request_run for its fault. */
proctype vcpu(byte who) {
    bool won; byte page; mtype answer;
    do
    ::  atomic { in_guest[who] = true; old_epoch[who] = false }
        do
        :: atomic { external_leaf == present && tlb[who] == 0 -> tlb[who] = external_page }
        :: atomic { tlb[who] != 0 -> assert(page_state[tlb[who]] == owned) }
        :: break
        od;
        atomic { tlb[who] = 0; in_guest[who] = false; old_epoch[who] = false }
        atomic { !excluded -> sharers++ } /* lock_share */
        if
        :: slot[TABLE] == absent -> table_link(who)
        :: slot[TABLE] == present -> leaf_set(who)
        fi;
        won = false; answer = ok;
        sharers-- /* lock_unshare */
    od
}

/* With the lock held exclusively and no entry in hand, both tables agree. */
inline quiescent() {
    atomic {
        assert(frozen_by[TABLE] == NOBODY && frozen_by[LEAF] == NOBODY);
        assert(slot[LEAF] == external_leaf && external_pages == tables);
        assert(linked == (slot[TABLE] == present));
        assert(slot[LEAF] == absent || slot_page == external_page);
        count = 0; page = 1;
        do
        :: page < PAGES ->
            if
            :: page_state[page] != free -> count++; assert(slot_page == page)
            :: else
            fi;
            page++
        :: else -> break
        od;
        assert(count == (slot[LEAF] != absent));
        count = 0; page = 0
    }
}

/* The kick of td_track: every vCPU that entered before the track leaves. */
inline vcpus_kick() {
    (!old_epoch[1]);
    (!old_epoch[2])
}

inline row_remove() {
    atomic {
        module_answer(answer);
        if
        :: answer == ok ->
            assert(external_leaf == blocked && tracked);
            assert(!old_epoch[1] && !old_epoch[2]);
            external_leaf = absent; external_page = 0
        :: else
        fi
    }
    if
    :: answer == ok ->
        page = slot_page;
        slot_publish(LEAF, REMOVER, absent, 0);
        page_state[page] = free; /* pages_free */
        page = 0;
        reached(5)
    :: else
    fi
}

/* mirror_remove_range of one leaf. Each answer is what change_step or
 * changes_track returns after its second try. */
proctype remover() {
    bool won; byte page; byte count; mtype answer; mtype old;
    do
    ::  atomic { sharers == 0 -> excluded = true } /* lock_exclude */
        quiescent();
        if
        :: slot[LEAF] != absent ->
            old = slot[LEAF];
            slot_freeze(LEAF, REMOVER, old, won);
            assert(won);
            atomic { /* change_begin */
                answer = ok;
                if
                :: old == present ->
                    module_answer(answer);
                    if
                    :: answer == ok -> external_leaf = blocked; tracked = false
                    :: else
                    fi
                :: else
                fi
            }
            if
            :: answer != ok -> slot_publish(LEAF, REMOVER, old, slot_page)
            :: else ->
#ifndef SKIP_TRACK
                atomic {
                    module_answer(answer);
                    if
                    :: answer == ok ->
                        tracked = true;
                        old_epoch[1] = in_guest[1]; old_epoch[2] = in_guest[2]
                    :: else
                    fi
                }
#endif
                if
                :: answer == ok ->
#ifndef SKIP_KICK
                    vcpus_kick();
#endif
                    row_remove()
                :: else
                fi;
                if
                :: answer != ok -> /* change_undo; the module unblocks nothing untracked */
                    atomic {
                        answer = refused;
                        if
                        :: tracked -> module_answer(answer)
                        :: else
                        fi;
                        if
                        :: answer == ok -> external_leaf = present; tracked = false
                        :: else
                        fi
                    }
                    if
                    :: answer == ok -> slot_publish(LEAF, REMOVER, present, slot_page); reached(6)
                    :: else -> slot_publish(LEAF, REMOVER, blocked, slot_page); reached(7)
                    fi
                :: else
                fi
            fi
        :: else
        fi;
        quiescent();
        won = false; answer = ok; old = absent;
        excluded = false /* lock_unexclude */
    od
}

init { atomic { run vcpu(1); run vcpu(2); run remover() } }

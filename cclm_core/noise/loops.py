"""The compiled loop behind `noise.kernel`; importing it needs numba. What it computes is said in `noise.apply`.

It is one function because numba counts references to every array that is handed to another one, at each call.
"""

import numpy as np
from numba import njit

from cclm_core.noise.draws import AGAIN, FIRST, GOLDEN, SECOND
from cclm_core.noise.tables import EXTENDS, LETTER, LINKS, NONE
from cclm_core.noise.template import WORD, What, When

_ALWAYS, _BEFORE_ANOTHER, _INSIDE = int(When.ALWAYS), int(When.BEFORE_ANOTHER), int(When.INSIDE)
_HERE, _AFTER, _CHOICE = int(What.HERE), int(What.AFTER), int(What.CHOICE)
_LOW = np.uint64(0xFFFFFFFF)
_S27, _S30, _S31, _S32 = (np.uint64(bits) for bits in (27, 30, 31, 32))


@njit(inline="always")
def _bits(key, place):  # type: ignore[no-untyped-def]
    random = place * GOLDEN + key
    random = (random ^ (random >> _S30)) * FIRST
    random = (random ^ (random >> _S27)) * SECOND
    return random ^ (random >> _S31)


@njit(cache=True, nogil=True)
def noise(  # type: ignore[no-untyped-def]  # numba infers the types
    symbols, flags, space, fixed, fences, program, positions, key, first, noised, source, edits
):
    length, num_kinds = len(symbols), len(program.when)
    shares = np.cumsum(program.weight)
    counts, bounds = np.zeros(num_kinds, dtype=np.int64), np.zeros(num_kinds)
    acts_on = np.uint8(0)
    for kind in range(num_kinds):
        acts_on |= program.acts_on[kind]
    read = written = num_edits = 0
    for number in range(len(positions) + 1):
        position = positions[number] if number < len(positions) else length
        kind, way = -1, np.int64(0)
        if position < length:
            here = symbols[position]
            flag = flags[here]
            if position < read or not flag & acts_on:
                continue  # an edit before consumed it, or no kind acts on it
            behind = position + 1
            before = flags[symbols[position - 1]] if position > 0 else np.uint8(0)
            after = flags[symbols[behind]] if behind < length else np.uint8(0)
            if (flag | after) & EXTENDS or before & LINKS or (len(fixed) and fixed[position]):
                continue
            joined = behind < length and not (len(fences) and fences[behind])
            place = np.uint64(position) + first
            random = _bits(key, place)
            wanted = np.float64(random >> _S32) * 2.0**-32 * shares[-1]
            kind = 0
            for other in range(num_kinds - 1):
                kind += wanted >= shares[other]
            low, high, total = kind, kind + 1, 0.0
            while True:  # first the kind that was drawn, and if it cannot act, all
                for other in range(low, high):
                    count = program.counts[program.table[other], here] if flag & program.acts_on[other] else 0
                    when = program.when[other]
                    if when != _ALWAYS and count:
                        if when == _BEFORE_ANOTHER:
                            may = joined and after & LETTER and here != symbols[behind] and not flag & LINKS
                            if may and behind + 1 < length:
                                may = not flags[symbols[behind + 1]] & EXTENDS
                            if may and len(fixed):
                                may = not fixed[behind]
                        elif when == _INSIDE:
                            may = joined and after & LETTER and space != NONE
                        else:
                            may = after & WORD and before & WORD
                        count = count if may else 0
                    counts[other] = count
                    total += program.weight[other] if count else 0.0
                    bounds[other] = total
                if total > 0 or high - low == num_kinds:
                    break
                low, high = 0, num_kinds
            if total == 0:
                continue
            if high - low > 1:
                wanted = np.float64(_bits(key ^ AGAIN, place) >> _S32) * 2.0**-32 * total
                kind = 0
                while wanted >= bounds[kind]:
                    kind += 1
            way = np.int64(((random & _LOW) * np.uint64(counts[kind])) >> _S32)
        # What no edit touched, with indices that cannot be negative, so that the compiler takes many at once.
        start, to, untouched = np.uint64(read), np.uint64(written), np.uint64(position - read)
        for offset in range(untouched):
            noised[to + offset] = symbols[start + offset]
        for offset in range(untouched):
            source[to + offset] = np.int32(start + offset)
        written += position - read
        if kind < 0:
            break
        for put in range(program.num_puts[kind]):
            what = program.what[kind, put]
            if what == _HERE:
                noised[written] = here
            elif what == _AFTER:
                noised[written] = symbols[behind]
            elif what == _CHOICE:
                noised[written] = program.values[program.starts[program.table[kind], here] + way]
            else:
                noised[written] = space
            come_from = program.offset[kind, put]
            source[written] = position + come_from if come_from >= 0 else -1
            written += 1
        read = position + program.consumes[kind]
        edits[0, num_edits] = position
        edits[1, num_edits] = kind
        edits[2, num_edits] = program.consumes[kind]
        edits[3, num_edits] = program.num_puts[kind]
        num_edits += 1
    return written, num_edits

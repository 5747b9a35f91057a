"""The pass over the contexts of a layer's features, compiled by numba without the GIL."""

from __future__ import annotations

import numpy as np

from tegakari.kernels.cpu.loops import compiled

CANDIDATES = 32
"""Words of a feature that terms are chosen from."""


@compiled
def z_score(y, n, alpha, prior, log_odds, variance):
    """Equations 16, 20 and 22 of Monroe, Colaresi and Quinn 2008, of one word in n words against the corpus."""
    delta = np.log((y + alpha) / (n + prior - y - alpha)) - log_odds
    return delta / np.sqrt(1.0 / (y + alpha) + variance)


@compiled
def fill_terms(
    first,  # int64 [features + 1]: contexts of each feature
    document,  # int32 [C], ascending within a feature
    word_start,  # int64 [C]: first word of the window
    word_end,  # int64 [C]: the word after its last
    word_at,  # int64 [C]: the word of the kept position, or the word after it
    is_word,  # bool [C]: whether the kept position is on a word
    form,  # int32 [W]
    joined,  # bool [W]
    alpha,  # float64 [forms]: prior counts
    prior,  # float64: their sum
    log_odds,  # float64 [forms]: of the corpus, with the prior
    variance,  # float64 [forms]
    rate,  # float64 [forms]: share of windows of the corpus that have the word
    min_z,  # float64 [tests + 1]: z-score of a term among so many words
    min_gain,  # float64: of a term
    min_total,  # float64: gain of all terms together
    common,  # float64: share of documents whose position is on a term, from which they need no gain
    term_words,  # int32 [features, terms, words]: out, -1 = none
    term_anchor,  # int32 [features, terms]: out
    term_documents,  # int32 [features, terms]: out
    term_on,  # int32 [features, terms]: out
    term_before,  # int32 [features, terms]: out
    term_z,  # float64 [features, terms]: out
    documents,  # int32 [features]: out
    covered_documents,  # int32 [features]: out
):
    """Choose the terms of each feature: significant words, in the order in which they add most documents."""
    forms, terms, words = len(alpha), term_words.shape[1], term_words.shape[2]
    stamp = np.full(forms, -1, np.int64)  # serial number of the last document of a feature that has the word
    on_stamp = np.full(forms, -1, np.int64)
    count, on = np.zeros(forms, np.int32), np.zeros(forms, np.int32)
    touched = np.empty(forms + 1, np.int32)
    candidate_of = np.full(forms, -1, np.int32)
    candidates = np.empty(CANDIDATES, np.int32)
    gains, scores = np.empty(CANDIDATES), np.empty(CANDIDATES)
    serial = np.int64(0)
    for feature in range(len(first) - 1):
        begin, stop = first[feature], first[feature + 1]
        n_touched, n_words, n_documents = 0, 0, 0
        previous = -1
        for context in range(begin, stop):
            if document[context] != previous:
                previous = document[context]
                n_documents += 1
                serial += 1
            for row in range(word_start[context], word_end[context]):
                word = form[row]
                is_new = np.int32(stamp[word] != serial)  # a branch would be mispredicted at every second word
                stamp[word] = serial
                touched[n_touched] = word
                n_touched += is_new & (count[word] == 0)
                count[word] += is_new
                n_words += is_new
            if is_word[context] and on_stamp[form[word_at[context]]] != serial:
                on_stamp[form[word_at[context]]] = serial
                on[form[word_at[context]]] += 1
        documents[feature] = n_documents
        least = min(2, n_documents)
        n_candidates, tests = 0, 0
        for index in range(n_touched):
            tests += count[touched[index]] >= least
        limit = min_z[min(tests, len(min_z) - 1)]
        for index in range(n_touched):
            word = touched[index]
            share = count[word] / max(n_documents, 1)
            gain = share - rate[word]
            if count[word] < least or gain < min_gain:
                continue
            z = z_score(count[word], n_words, alpha[word], prior, log_odds[word], variance[word])
            if on[word] > 0:
                z_on = z_score(on[word], n_documents, alpha[word], prior, log_odds[word], variance[word])
                z = max(z, z_on)
            if z < limit:
                continue
            place = n_candidates
            if n_candidates == CANDIDATES:  # the last of the best so far
                place = CANDIDATES - 1
                if gain < gains[place] or (gain == gains[place] and word > candidates[place]):
                    continue
            else:
                n_candidates += 1
            while place > 0 and (
                gains[place - 1] < gain or (gains[place - 1] == gain and candidates[place - 1] > word)
            ):
                gains[place], scores[place] = gains[place - 1], scores[place - 1]
                candidates[place] = candidates[place - 1]
                place -= 1
            gains[place], scores[place], candidates[place] = gain, z, word
        if n_candidates:
            for index in range(n_candidates):
                candidate_of[candidates[index]] = index
            has = np.zeros((n_candidates, n_documents), np.bool_)
            at = np.zeros((n_candidates, n_documents), np.int8)  # 1: at the position, 2: before it, as bits
            number, previous = -1, -1
            for context in range(begin, stop):
                if document[context] != previous:
                    previous = document[context]
                    number += 1
                for row in range(word_start[context], word_end[context]):
                    index = candidate_of[form[row]]
                    if index >= 0:
                        has[index, number] = True
                        if row < word_at[context]:
                            at[index, number] |= 2
                        elif row == word_at[context] and is_word[context]:
                            at[index, number] |= 1
            covered = np.zeros(n_documents, np.bool_)
            silent = 1.0  # share of windows of the corpus without a term, were terms independent
            for term in range(terms):
                best, best_gain = -1, min_gain
                for index in range(n_candidates):
                    if candidate_of[candidates[index]] < 0:
                        continue
                    added = 0
                    for number in range(n_documents):
                        if has[index, number] and not covered[number]:
                            added += 1
                    gain = added / n_documents - silent * rate[candidates[index]]
                    if added >= least and gain > best_gain:
                        best, best_gain = index, gain
                if best < 0:
                    break
                word = candidates[best]
                silent *= 1.0 - rate[word]
                candidate_of[word] = -1
                term_words[feature, term, 0] = term_anchor[feature, term] = word
                term_documents[feature, term] = count[word]
                term_z[feature, term] = scores[best]
                for number in range(n_documents):
                    if has[best, number]:
                        covered[number] = True
                        term_on[feature, term] += at[best, number] & 1
                        term_before[feature, term] += at[best, number] == 2
                _lengthen(
                    term_words[feature, term], words, begin, stop, document, word_start, word_end, form,
                    joined, count, alpha, prior, log_odds, variance, n_words, min_z[1],
                )  # fmt: skip
            covered_documents[feature] = covered.sum()
            if (
                covered_documents[feature] / n_documents - (1.0 - silent) < min_total
                and term_on[feature].max() < common * n_documents
            ):
                covered_documents[feature] = 0
                term_words[feature], term_anchor[feature], term_z[feature] = -1, -1, 0.0
                term_documents[feature], term_on[feature], term_before[feature] = 0, 0, 0
            for index in range(n_candidates):
                candidate_of[candidates[index]] = -1
        for index in range(n_touched):
            count[touched[index]] = 0
            on[touched[index]] = 0


@compiled
def _lengthen(
    term, words, begin, stop, document, word_start, word_end, form, joined, count, alpha, prior, log_odds,
    variance, n_words, min_z,
):  # fmt: skip
    """Lengthen a term by significant neighbours that stand beside it in nearly all documents that have it.

    The cutter parts what belongs together (品質 管理): the longest string with the same support is the word.
    """
    length, anchor = 1, 0  # the term's first word is `anchor` words behind the start of the string
    word = term[0]
    rows = np.empty(stop - begin, np.int64)
    n_rows, previous = 0, -1
    for context in range(begin, stop):  # one occurrence per document
        if document[context] == previous:
            continue
        for row in range(word_start[context], word_end[context]):
            if form[row] == word:
                rows[n_rows] = row
                n_rows += 1
                previous = document[context]
                break
    while length < words:
        extended = False
        for side in range(2):
            if length == words:
                break
            neighbour, votes, total = -1, 0, 0
            for vote in range(2):  # the majority (Boyer and Moore), then its count
                for index in range(n_rows):
                    row = rows[index] - anchor - 1 if side == 0 else rows[index] - anchor + length
                    beside = -1
                    if 0 <= row < len(form) and (joined[row] if side == 0 else joined[row - 1]):
                        beside = form[row]
                    if vote == 1:
                        total += beside == neighbour
                    elif votes == 0:
                        neighbour, votes = beside, 1
                    else:
                        votes += 1 if beside == neighbour else -1
                if vote == 0 and neighbour < 0:
                    break
            if neighbour < 0 or total < 0.9 * n_rows or n_rows < 2 or count[neighbour] == 0:
                continue
            z = z_score(count[neighbour], n_words, alpha[neighbour], prior, log_odds[neighbour], variance[neighbour])
            if z < min_z:
                continue
            if side == 0:
                for index in range(length, 0, -1):
                    term[index] = term[index - 1]
                term[0] = neighbour
                anchor += 1
            else:
                term[length] = neighbour
            length += 1
            extended = True
        if not extended:
            break

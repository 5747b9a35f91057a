"""The pass over the activations of a layer, compiled by numba without the GIL, so that layers run on threads."""

from __future__ import annotations

import numpy as np

from tegakari.kernels.cpu.loops import compiled


@compiled
def fill_best_labels(
    first, document, activation, features, label, n, threshold, rounding, best_d, best_label, variety, active
):
    """Fill the four results, [assignments, features], from label [documents, assignments] and n [assignments, labels].

    Label number `labels` is that of documents that are left out.
    """
    assignments, labels = n.shape
    sums = np.empty((assignments, labels + 1))
    squares_out = np.empty(assignments)
    total_n = np.empty(assignments)
    for p in range(assignments):
        total_n[p] = n[p].sum()
    for place in range(len(features)):
        start, stop = first[features[place]], first[features[place] + 1]
        sums[:] = 0.0
        squares_out[:] = 0.0
        squares_all = 0.0
        for row in range(start, stop):
            a = np.float64(activation[row])
            of_document = label[document[row]]
            squares_all += a * a
            for p in range(assignments):
                c = of_document[p]
                sums[p, c] += a
                if c == labels:
                    squares_out[p] += a * a
        for p in range(assignments):
            squares = squares_all - squares_out[p]
            total = 0.0
            for c in range(labels):
                total += sums[p, c]
            smallest = rounding * squares
            signed = -np.inf  # of the square of d over its degrees of freedom, with the sign of d
            where, above = -1, 0
            freedom = total_n[p] - 2
            limit = threshold * abs(threshold) / freedom
            for c in range(labels):
                n_c = n[p, c]
                n_r = total_n[p] - n_c
                if n_c < 2 or n_r < 1:
                    continue
                mean, mean_r = sums[p, c] / n_c, (total - sums[p, c]) / n_r
                m2 = squares - n_c * mean * mean - n_r * mean_r * mean_r
                difference = mean - mean_r
                if m2 > smallest:
                    value = difference * abs(difference) / m2
                elif difference == 0:
                    value = 0.0
                else:
                    continue
                if value > limit:
                    above += 1
                if value > signed:
                    signed, where = value, c
            count = 0
            if above > 0:
                for row in range(start, stop):
                    if label[document[row], p] == where:
                        count += 1
            best_d[p, place] = np.sign(signed) * np.sqrt(abs(signed) * freedom)
            best_label[p, place] = where
            variety[p, place] = above
            active[p, place] = count

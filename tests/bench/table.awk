# The table, or with -v mode=check the bars, or with -v mode=points what a picture shows, from rows.txt, bars.txt and figures.csv
# (round,workload,peer,figure,value,unit). A figure that a peer gave twice in a round (chunk sizes, settings) counts with the better one.
# Ratios are of one round: its peer's figure and ours; what is printed is their median, and the least and the most of them.

function trim(text) { gsub(/^ +| +$/, "", text); return text }

function better(figure, a, b) { return less[figure] ? a < b : a > b }

# Sorts list[1..n] and returns its median; `least` and `most` are left behind.
function median(list, n,    i, j, kept) {
    for (i = 2; i <= n; i++) {
        kept = list[i]
        for (j = i - 1; j > 0 && list[j] > kept; j--) list[j + 1] = list[j]
        list[j + 1] = kept
    }
    least = list[1]; most = list[n]
    return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
}

function short(x) {             # three digits
    if (x == 0) return "0"
    return sprintf(x < 0 ? "%g" : x >= 99.95 ? "%.0f" : x >= 9.995 ? "%.1f" : x >= 0.9995 ? "%.2f" : x >= 0.09995 ? "%.3f" : "%.2g", x)
}

function spread(n) { return n > 1 ? " (" short(least) ".." short(most) ")" : "" }

# The median of peer's figure over the rounds, "" where there is none; `count` is left behind.
function value_of(peer, figure,    round, list) {
    count = 0
    for (round = 1; round <= rounds; round++)
        if ((round, peer, figure) in value) list[++count] = value[round, peer, figure]
    return count ? median(list, count) : ""
}

# How many times better forkpool's `figure` is than another.
function ratio_of(figure, peer, other,    round, list, a, b) {
    count = 0
    for (round = 1; round <= rounds; round++)
        if ((round, "forkpool", figure) in value && (round, peer, other) in value) {
            a = value[round, "forkpool", figure]; b = value[round, peer, other]
            if (a > 0 && b > 0) list[++count] = less[figure] ? b / a : a / b
        }
    return count ? median(list, count) : ""
}

function cell(figure, peer,    v, r) {
    v = value_of(peer, figure)
    if (v == "") return ""
    r = ratio_of(figure, peer, figure)
    return short(v) (r == "" ? "" : "  x" short(r) spread(count))
}

function row(a, b, c, d, e, f) {
    if (markdown) print "| " a " | " b " | " c " | " d " | " e " | " f " |"
    else printf "%-4s%-66s %-24s %-27s %-25s %s\n", a, b, c, d, e, f
}

function table(    i, figure, v, ours, limit_cell) {
    row("", "2 workers unless said; median of the rounds (least..most)", "forkpool", "CPython's Pool", "Open MPI", "limit, or beside")
    if (markdown) print "|---|---|---|---|---|---|"
    for (i = 1; i <= lines; i++) {
        figure = line[i]
        v = value_of("forkpool", figure)
        if (v == "") continue
        ours = short(v) (unit[figure] == "-" ? "" : " " unit[figure]) spread(count)
        limit_cell = limit[figure] == "" ? "" : cell(figure, limit[figure])
        row(workload[figure], text[figure], ours, cell(figure, "python"), cell(figure, "openmpi"),
            limit_cell == "" ? "" : limit[figure] ": " limit_cell)
    }
    print ""
    print "x: how many times better forkpool is than that peer in the same round. Further peers, if any:"
    if (markdown) print ""
    for (i = 1; i <= lines; i++) {
        figure = line[i]
        for (p = 1; p <= peers; p++)
            if (peer_name[p] !~ /^(forkpool|python|openmpi)$/ && peer_name[p] != limit[figure] && (v = cell(figure, peer_name[p])) != "")
                print (markdown ? "- " : "    ") figure ": " peer_name[p] " " v
    }
}

function group(pattern, kind,    i, v, low, high, any) {
    for (i = 1; i <= lines; i++) {
        if (line[i] !~ "^" pattern "$" || (v = value_of("forkpool", line[i])) == "") continue
        if (!any || v < low) low = v
        if (!any || v > high) high = v
        any++
    }
    return any < 2 ? "" : kind == "flat" ? high / low : high - low
}

function check(    i, got, good, parts) {
    printf "%-4s %-22s %-20s %10s %10s\n", "", "figure", "against", "bar", "reached"
    for (i = 1; i <= bars; i++) {
        count = 0
        if (against[i] == "-") got = value_of("forkpool", bar_figure[i])
        else if (against[i] == "flat" || against[i] == "grown") got = group(bar_figure[i], against[i])
        else if (split(against[i], parts, ":") == 2) got = ratio_of(bar_figure[i], parts[1], parts[2])
        else got = ratio_of(bar_figure[i], against[i], bar_figure[i])
        split(bar[i], parts, " ")
        good = got == "" ? "not measured" : (parts[1] == ">=" ? got >= parts[2] + 0 : got <= parts[2] + 0) ? "ok" : "SHORT"
        fell += good == "SHORT"
        if (got != "" || all == "all")
            printf "%-4s %-22s %-20s %10s %10s  %s%s\n", bar_workload[i], bar_figure[i], against[i], bar[i], got == "" ? "-" : short(got), good,
                   got == "" ? "" : spread(count)
    }
    print fell ? fell " fall short" : "none falls short"
}

# For each figure that matches `pattern`: the number in its name, and the median of each peer asked for.
function points(    i, n, k, peer, x, v) {
    n = split(peers_asked, peer, " ")
    for (i = 1; i <= lines; i++) {
        if (line[i] !~ pattern) continue
        x = line[i]
        gsub(/[^0-9]/, "", x)
        printf "%s", x
        for (k = 1; k <= n; k++) {
            v = value_of(peer[k], line[i])
            printf " %s", v == "" ? "-" : v
        }
        print ""
    }
}

/^#/ || /^$/ { next }

FILENAME ~ /rows\.txt$/ {
    n = split($0, field, "|")
    figure = trim(field[2])
    line[++lines] = figure
    workload[figure] = trim(field[1]); unit[figure] = trim(field[3]); less[figure] = trim(field[4]) == "less"
    limit[figure] = trim(field[5])
    sub(/^ /, "", field[6]); text[figure] = field[6]
    next
}

FILENAME ~ /bars\.txt$/ {
    split($0, field, "|")
    bars++
    bar_workload[bars] = trim(field[1]); bar_figure[bars] = trim(field[2]); against[bars] = trim(field[3]); bar[bars] = trim(field[4])
    next
}

FNR > 1 {
    split($0, field, ",")
    round = field[1] + 0; peer = field[3]; figure = field[4]
    if (round > rounds) rounds = round
    if (!(peer in known)) { known[peer] = 1; peer_name[++peers] = peer }
    if (!((round, peer, figure) in value) || better(figure, field[5] + 0, value[round, peer, figure])) value[round, peer, figure] = field[5] + 0
}

END {
    markdown = mode == "markdown"
    if (mode == "check") check()
    else if (mode == "points") points()
    else table()
    exit (fell > 0)
}

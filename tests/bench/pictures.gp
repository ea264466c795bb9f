# Two pictures from the medians that `run` leaves in workers.dat and costs.dat, in the present directory.
set terminal svg size 720,420 font "sans,13" background "white"
set logscale xy
set key outside right top
set grid
set style data linespoints
set datafile missing "-"

set output "workers.svg"
set title "Stream of 8-byte items, chunk 1 (more is better)"
set xlabel "workers"
set ylabel "items per second"
set format y "10^{%L}"
set xtics (2, 16, 64, 256)
plot "workers.dat" using 1:($2*1e6) title "forkpool" linewidth 2, \
     "" using 1:($3*1e6) title "CPython's Pool", "" using 1:($4*1e6) title "Open MPI"

set output "costs.svg"
set title "Map with 2 workers: wall time per item (less is better)"
set xlabel "cost of an item, µs"
set ylabel "ns per item"
set xtics (1, 10, 100, 1000)
plot "costs.dat" using 1:2 title "forkpool" linewidth 2, \
     "" using 1:3 title "CPython's Pool", "" using 1:4 title "OpenMP, dynamic", \
     "" using 1:($1*500) title "half the cost" with lines dashtype 2

//! Pictures of a record, as SVG.

use crate::figures::Figures;
use crate::growth::Chart;
use crate::run::Record;
use crate::summary;
use crate::table;
use crate::transport::{About, Family, Topology};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const WIDTH: u32 = 860;
const FONT: &str = "sans-serif";
/// Height of a bar and of what is around all of them.
const BAR: u32 = 22;
const FRAME: u32 = 110;
const LINES: u32 = 460;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn said(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing: {error}")
}

/// The colour of a family.
fn colour(family: Family) -> RGBColor {
    match family {
        Family::Bare => RGBColor(150, 150, 150),
        Family::Tombolo => RGBColor(0, 110, 190),
        Family::Kernel => RGBColor(214, 137, 16),
        Family::Rival => RGBColor(120, 70, 150),
    }
}

/// Colours of lines that mean nothing else.
const PALETTE: [RGBColor; 8] = [
    RGBColor(0, 110, 190),
    RGBColor(214, 137, 16),
    RGBColor(120, 70, 150),
    RGBColor(30, 140, 90),
    RGBColor(190, 40, 50),
    RGBColor(110, 110, 110),
    RGBColor(0, 160, 170),
    RGBColor(150, 100, 60),
];

fn canvas(path: &Path, height: u32) -> Result<Area<'_>> {
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE).map_err(said)?;
    Ok(area)
}

/// Bars of all transports at one shape and length, the best on top; a logarithmic axis.
///
/// # Errors
/// If the file can't be written, or nothing was measured.
pub fn bars(record: &Record, topology: Topology, length: usize, path: &Path) -> Result<()> {
    let figures = Figures::of(record);
    let bar = |about: &About| {
        let cell = figures.cell(&about.name, topology, length)?;
        Some((about.name.clone(), about.family, cell.value.median))
    };
    let all: Vec<Bar> = record.transports.iter().filter_map(bar).collect();
    anyhow::ensure!(!all.is_empty(), "nothing was measured at {length} bytes");
    let area = canvas(path, FRAME + BAR * all.len() as u32)?;
    draw_bars(&area, all, topology, length)?;
    area.present().map_err(said)
}

/// One picture of messages of one length: a round trip's half above, a stream below, the bare limit
/// and some transports, each in so far as it was measured.
///
/// # Errors
/// If the file can't be written, or nothing was measured.
pub fn picture(
    record: &Record,
    length: usize,
    chosen: impl Fn(&About) -> bool,
    path: &Path,
) -> Result<()> {
    let figures = Figures::of(record);
    let panel = |topology| {
        let rows = summary::rows(record, &figures, topology, length, &chosen).into_iter();
        let bars: Vec<Bar> = rows
            .map(|row| (row.name, row.family, row.value.median))
            .collect();
        (topology, bars)
    };
    let panels = record.options.topologies.iter().map(|shape| panel(*shape));
    let panels: Vec<_> = panels.filter(|(_, bars)| !bars.is_empty()).collect();
    anyhow::ensure!(!panels.is_empty(), "nothing was measured at {length} bytes");
    let height = |bars: &Vec<Bar>| FRAME + BAR * bars.len() as u32;
    let total = panels.iter().map(|(_, bars)| height(bars)).sum();
    let mut area = canvas(path, total)?;
    for (topology, bars) in panels {
        let (upper, lower) = area.split_vertically(height(&bars));
        draw_bars(&upper, bars, topology, length)?;
        area = lower;
    }
    area.present().map_err(said)
}

/// A name, whose it is, and how long its bar is.
type Bar = (String, Family, f64);

fn draw_bars(area: &Area<'_>, mut rows: Vec<Bar>, topology: Topology, length: usize) -> Result<()> {
    rows.sort_by(|a, b| match topology {
        // The first is drawn at the bottom.
        Topology::RoundTrip => b.2.total_cmp(&a.2),
        Topology::Stream => a.2.total_cmp(&b.2),
    });
    let low = rows.iter().map(|row| row.2).fold(f64::INFINITY, f64::min);
    let high = rows.iter().map(|row| row.2).fold(0.0, f64::max);
    let (low, high) = (low / 3.0, high * 3.0);
    let title = format!("{}, {}", table::caption(topology), table::bytes(length));
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 19))
        .margin(12)
        .set_label_area_size(LabelAreaPosition::Left, 250)
        .set_label_area_size(LabelAreaPosition::Bottom, 36)
        .build_cartesian_2d((low..high).log_scale(), 0f64..rows.len() as f64)
        .map_err(said)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(WHITE)
        .x_desc("logarithmic")
        .x_labels(8)
        .x_label_formatter(&|x| table::value(topology, 0, *x))
        .label_style((FONT, 13))
        .draw()
        .map_err(said)?;
    for (i, (_, family, value)) in rows.iter().enumerate() {
        let (bottom, top) = (i as f64 + 0.15, i as f64 + 0.85);
        let style = colour(*family).filled();
        let bar = Rectangle::new([(low, bottom), (*value, top)], style);
        chart.draw_series([bar]).map_err(said)?;
        let figure = format!(" {}", table::value(topology, 0, *value));
        let text = Text::new(figure, (*value, i as f64 + 0.78), (FONT, 13).into_font());
        chart.draw_series([text]).map_err(said)?;
    }
    // Names left of the bars, where the axis would have its numbers.
    let (plot_x, plot_y) = chart.plotting_area().get_pixel_range();
    // The range is the whole picture's, what is drawn is the area's.
    let (left, upper) = area.get_base_pixel();
    let height = f64::from(plot_y.end - plot_y.start) / rows.len() as f64;
    for (i, (name, family, _)) in rows.iter().enumerate() {
        let y = f64::from(plot_y.end) - (i as f64 + 0.5) * height;
        let colour = colour(*family);
        let style = TextStyle::from((FONT, 13).into_font())
            .color(&colour)
            .pos(Pos::new(HPos::Right, VPos::Center));
        let at = (plot_x.start - 8 - left, y as i32 - upper);
        area.draw(&Text::new(name.clone(), at, style))
            .map_err(said)?;
    }
    Ok(())
}

/// Lines of several series over a number, both axes logarithmic.
///
/// # Errors
/// If the file can't be written, or there is nothing to draw.
pub fn lines(chart: &Chart, path: &Path) -> Result<()> {
    let xs = || chart.points.iter().map(|point| point.x as f64);
    let (left, right) = (xs().fold(f64::INFINITY, f64::min), xs().fold(0.0, f64::max));
    let low = chart.points.iter().map(|point| point.y.min);
    let low = low.fold(f64::INFINITY, f64::min);
    let high = chart
        .points
        .iter()
        .map(|point| point.y.max)
        .fold(0.0, f64::max);
    anyhow::ensure!(right > 0.0 && high > 0.0, "{}: nothing to draw", chart.name);
    let area = canvas(path, LINES)?;
    let (left, right) = (left.max(1.0) / 1.2, right * 1.2);
    let (low, high) = (low.max(1.0) / 2.0, high * 2.0);
    let mut drawn = ChartBuilder::on(&area)
        .caption(&chart.title, (FONT, 19))
        .margin(12)
        .set_label_area_size(LabelAreaPosition::Left, 80)
        .set_label_area_size(LabelAreaPosition::Bottom, 44)
        .build_cartesian_2d((left..right).log_scale(), (low..high).log_scale())
        .map_err(said)?;
    drawn
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(&chart.x)
        .y_desc(&chart.y)
        .x_label_formatter(&|x| number(*x))
        .y_label_formatter(&|y| number(*y))
        .label_style((FONT, 13))
        .draw()
        .map_err(said)?;
    let mut names: Vec<&str> = chart.points.iter().map(|point| &*point.series).collect();
    names.dedup();
    let mut series: Vec<&str> = Vec::new();
    for name in names {
        if !series.contains(&name) {
            series.push(name);
        }
    }
    for (name, colour) in series.into_iter().zip(PALETTE.into_iter().cycle()) {
        let points = || {
            chart
                .points
                .iter()
                .filter(move |point| point.series == name)
        };
        let line = points().map(|point| (point.x as f64, point.y.median));
        drawn
            .draw_series(LineSeries::new(line, colour.stroke_width(2)))
            .map_err(said)?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 14, y + 4)], colour.filled()));
        let dots = points().map(|point| {
            let at = (point.x as f64, point.y.median);
            Circle::new(at, 3, colour.filled())
        });
        drawn.draw_series(dots).map_err(said)?;
        let spreads = points().map(|point| {
            let x = point.x as f64;
            PathElement::new([(x, point.y.min), (x, point.y.max)], colour.stroke_width(1))
        });
        drawn.draw_series(spreads).map_err(said)?;
    }
    drawn
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200))
        .label_font((FONT, 13))
        .draw()
        .map_err(said)?;
    area.present().map_err(said)
}

/// A number with the prefix that suits it.
pub fn number(x: f64) -> String {
    match x {
        ..1.0 => format!("{x:.2}"),
        1.0..1e3 => format!("{x:.0}"),
        1e3..1e6 => format!("{} k", trimmed(x / 1e3)),
        1e6..1e9 => format!("{} M", trimmed(x / 1e6)),
        _ => format!("{} G", trimmed(x / 1e9)),
    }
}

fn trimmed(x: f64) -> String {
    let text = format!("{x:.1}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

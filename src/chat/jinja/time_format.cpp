// strftime without the machine's locale, so that a prompt does not depend on it.
#include <array>

#include "chat/jinja/format.h"

namespace mobilellm::jinja {
namespace {

constexpr std::array<const char*, 7> kWeekdays = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                  "Thursday", "Friday", "Saturday"};
constexpr std::array<const char*, 12> kMonths = {"January", "February", "March",     "April",   "May",      "June",
                                                 "July",    "August",   "September", "October", "November", "December"};

// Days since 1970-01-01 (proleptic Gregorian calendar).
int64_t days_from_epoch(int year, int month, int day) {
  const int64_t y = month <= 2 ? year - 1 : year;
  const int64_t era = (y >= 0 ? y : y - 399) / 400;
  const int64_t year_of_era = y - era * 400;
  const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  const int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + day_of_era - 719468;
}

// ISO 8601 year and week.
std::pair<int, int> iso_week(int year, int year_day, int iso_weekday) {
  const int week = (year_day - iso_weekday + 10) / 7;
  const auto weeks_in = [](int of_year) {
    const auto day = static_cast<int>(((days_from_epoch(of_year, 12, 31) + 4) % 7 + 7) % 7);
    const auto day_before = static_cast<int>(((days_from_epoch(of_year - 1, 12, 31) + 4) % 7 + 7) % 7);
    return day == 4 || day_before == 3 ? 53 : 52;
  };
  if (week < 1) return {year - 1, weeks_in(year - 1)};
  if (week > weeks_in(year)) return {year + 1, 1};
  return {year, week};
}

}  // namespace

std::string format_time(std::string_view format, const WallClock& time) {
  const int64_t days = days_from_epoch(time.year, time.month, time.day);
  const auto weekday = static_cast<int>(((days + 4) % 7 + 7) % 7);
  const auto year_day = static_cast<int>(days - days_from_epoch(time.year, 1, 1) + 1);
  const int hour12 = time.hour % 12 == 0 ? 12 : time.hour % 12;
  const char* month_name = kMonths[static_cast<size_t>(time.month - 1)];
  const char* weekday_name = kWeekdays[static_cast<size_t>(weekday)];
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 >= format.size()) {
      out.push_back(format[i]);
      continue;
    }
    char code = format[++i];
    bool is_unpadded = false;
    // The "-" of glibc: no leading zero.
    if (code == '-' && i + 1 < format.size()) {
      is_unpadded = true;
      code = format[++i];
    }
    const auto two = [&](int value) { out += is_unpadded ? std::to_string(value) : fmt::format("{:02}", value); };
    switch (code) {
      case 'Y':
        out += std::to_string(time.year);
        break;
      case 'y':
        two(time.year % 100);
        break;
      case 'C':
        two(time.year / 100);
        break;
      case 'm':
        two(time.month);
        break;
      case 'd':
        two(time.day);
        break;
      case 'e':
        out += is_unpadded ? std::to_string(time.day) : fmt::format("{:2}", time.day);
        break;
      case 'H':
        two(time.hour);
        break;
      case 'I':
        two(hour12);
        break;
      case 'k':
        out += is_unpadded ? std::to_string(time.hour) : fmt::format("{:2}", time.hour);
        break;
      case 'l':
        out += is_unpadded ? std::to_string(hour12) : fmt::format("{:2}", hour12);
        break;
      case 'M':
        two(time.minute);
        break;
      case 'S':
        two(time.second);
        break;
      case 'f':
        out += "000000";
        break;
      case 'p':
        out += time.hour < 12 ? "AM" : "PM";
        break;
      case 'P':
        out += time.hour < 12 ? "am" : "pm";
        break;
      case 'A':
        out += weekday_name;
        break;
      case 'a':
        out += std::string_view(weekday_name).substr(0, 3);
        break;
      case 'B':
        out += month_name;
        break;
      case 'b':
      case 'h':
        out += std::string_view(month_name).substr(0, 3);
        break;
      case 'j':
        out += is_unpadded ? std::to_string(year_day) : fmt::format("{:03}", year_day);
        break;
      case 'u':
        out += std::to_string(weekday == 0 ? 7 : weekday);
        break;
      case 'w':
        out += std::to_string(weekday);
        break;
      case 'U':
        two((year_day + 6 - weekday) / 7);
        break;
      case 'W':
        two((year_day + 6 - (weekday + 6) % 7) / 7);
        break;
      case 'G':
        out += std::to_string(iso_week(time.year, year_day, weekday == 0 ? 7 : weekday).first);
        break;
      case 'V':
        two(iso_week(time.year, year_day, weekday == 0 ? 7 : weekday).second);
        break;
      case 'D':
      case 'x':
        out += fmt::format("{:02}/{:02}/{:02}", time.month, time.day, time.year % 100);
        break;
      case 'F':
        out += fmt::format("{}-{:02}-{:02}", time.year, time.month, time.day);
        break;
      case 'T':
      case 'X':
        out += fmt::format("{:02}:{:02}:{:02}", time.hour, time.minute, time.second);
        break;
      case 'R':
        out += fmt::format("{:02}:{:02}", time.hour, time.minute);
        break;
      case 'r':
        out += fmt::format("{:02}:{:02}:{:02} {}", hour12, time.minute, time.second, time.hour < 12 ? "AM" : "PM");
        break;
      case 'c':
        out += fmt::format("{} {} {:2} {:02}:{:02}:{:02} {}", std::string_view(weekday_name).substr(0, 3),
                           std::string_view(month_name).substr(0, 3), time.day, time.hour, time.minute, time.second,
                           time.year);
        break;
      case 's':
        out += std::to_string(days * 86400 + time.hour * 3600 + time.minute * 60 + time.second);
        break;
      case 'Z':
      case 'z':
        break;  // The time is local and names no zone.
      case 'n':
        out.push_back('\n');
        break;
      case 't':
        out.push_back('\t');
        break;
      case '%':
        out.push_back('%');
        break;
      default:
        out.push_back('%');
        if (is_unpadded) out.push_back('-');
        out.push_back(code);
    }
  }
  return out;
}

}  // namespace mobilellm::jinja
